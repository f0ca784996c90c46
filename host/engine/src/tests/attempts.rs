//! How attempts end, and what follows.

use std::sync::atomic::Ordering;
use store::items::DecisionRequest;

use domain::failure::{ErrorInfo, Failure, HOST_RESOURCES, HOST_STORE};
use domain::flow::Flow;
use domain::item::{ManualDecision, State};
use domain::job::{Isolation, JobSpec};
use domain::outcome::Outcome;
use domain::retry::RetryPolicy;
use expect_test::expect;
use jiff::{SignedDuration, Timestamp};
use test_support::on_both;

use super::fake::{Act, Gate};
use super::world::{Host, World, at, job};
use crate::EngineConfig;
use crate::executor::HOST_FAILED;

on_both![
    failures_walk_the_backoff,
    uncounted_outcomes_leave_the_number_of_attempts,
    guest_cannot_shorten_the_backoff,
    awaited_items_are_checked_again,
    a_permanent_failure_waits_for_a_person,
    attempts_run_out,
    a_panic_stays_in_its_item,
    failures_of_the_host_do_not_count,
    host_without_memory_continues,
    a_job_keeps_to_its_concurrency,
    guests_keep_to_the_memory_of_their_host,
    priority_and_age_decide_the_order,
    items_of_one_claim_share_instances_if_their_job_allows_it,
];

/// Moves the clock to the due time of `key`: first to one millisecond before it, where no attempt may start.
async fn advance_to_due(world: &World, host: &Host, key: &str) -> SignedDuration {
    let item = host.item(key).await.unwrap();
    let wait = item.due_at.duration_since(world.clock.now());
    let moment = SignedDuration::from_millis(1);
    world.clock.advance(wait - moment);
    tokio::task::yield_now().await;
    world.clock.advance(moment);
    wait
}

/// Rule W4 (docs/rules.md), with the whole engine.
async fn failures_walk_the_backoff(world: World) {
    world.script.finds(&["a"]);
    world.script.fails("a", (0..8).map(|_| Failure::transient("mpc-down", "no answer")));
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    let mut minutes = Vec::new();
    for attempt in 1..=8 {
        world.until_count("h1 attempt-ended a failed", attempt).await;
        minutes.push(advance_to_due(&world, &host, "a").await.as_secs_f64() / 60.0);
    }
    assert_eq!(minutes, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    let item = world.until_state(&host, "a", State::Resolved).await;
    assert_eq!((item.attempts, item.error), (9, None));
    expect![[r#"
        #1 failed mpc-down 12:00:30Z
        #2 failed mpc-down 12:01:30Z
        #3 failed mpc-down 12:03:30Z
        #4 failed mpc-down 12:07:30Z
        #5 failed mpc-down 12:15:30Z
        #6 failed mpc-down 12:31:30Z
        #7 failed mpc-down 13:03:30Z
        #8 failed mpc-down 14:03:30Z
        #9 resolved 15:03:30Z
    "#]]
    .assert_eq(&host.attempts("a").await);
    let run = host.store.runs().get(run).await.unwrap().unwrap();
    assert_eq!((run.state.as_str(), run.done, run.failed), ("finished", 1, 1), "its first attempt counts");
    assert_eq!(host.events().await, ["a"], "failed attempts leave nothing");
}

async fn uncounted_outcomes_leave_the_number_of_attempts(world: World) {
    world.script.finds(&["a"]);
    let slow = ErrorInfo::new("busy", "slow down");
    world.script.of("a", [Act::End(Ok(Outcome::Snoozed { until: at("12:10:00") }))]);
    world.script.fails("a", [Failure::Throttled { retry_after: SignedDuration::from_secs(7), error: slow }]);
    world.script.fails("a", [Failure::transient("mpc-down", "no answer")]);
    let host = world.host("h1", &[job()]).await;
    host.trigger().await;
    for verdict in ["snoozed", "throttled", "failed"] {
        world.until_seen(&format!("h1 attempt-ended a {verdict}")).await;
        advance_to_due(&world, &host, "a").await;
    }
    world.until_state(&host, "a", State::Resolved).await;
    expect![[r#"
        #1 snoozed 12:00:30Z
        #1 throttled busy 12:10:00Z
        #1 failed mpc-down 12:12:00Z
        #2 resolved 12:13:00Z
    "#]]
    .assert_eq(&host.attempts("a").await);
}

async fn guest_cannot_shorten_the_backoff(world: World) {
    world.script.finds(&["a"]);
    let duration = Timestamp::from_millisecond(60_000).unwrap();
    world.script.of("a", [Act::End(Ok(Outcome::Snoozed { until: duration }))]);
    let now =
        || Failure::Throttled { retry_after: SignedDuration::ZERO, error: ErrorInfo::new("busy", "no") };
    world.script.fails("a", [now(), now(), now()]);
    let retry = RetryPolicy { deferrals_max: Some(3), ..job().retry };
    let host = world.host("h1", &[JobSpec { retry, ..job() }]).await;
    host.trigger().await;
    world.until_seen("h1 attempt-ended a failed").await;
    assert_eq!(host.events().await, [""; 0], "an answer that is refused leaves nothing");
    for throttled in 1..=2 {
        advance_to_due(&world, &host, "a").await;
        world.until_count("h1 attempt-ended a throttled", throttled).await;
    }
    advance_to_due(&world, &host, "a").await;
    let item = world.until_state(&host, "a", State::ManualRequired).await;
    assert_eq!(item.error.unwrap().code, "deferrals-exhausted");
    expect![[r#"
        #1 failed snoozed-to-past 12:00:30Z
        #2 throttled busy 12:01:30Z
        #2 throttled busy 12:02:30Z
        #2 exhausted deferrals-exhausted 12:04:30Z
    "#]]
    .assert_eq(&host.attempts("a").await);
}

async fn awaited_items_are_checked_again(world: World) {
    world.script.finds(&["a"]);
    world.script.of("a", [Act::End(Ok(Outcome::Awaiting { note: Some("begun".to_owned()) }))]);
    let host = world.host("h1", &[job()]).await;
    host.trigger().await;
    let item = world.until_state(&host, "a", State::Awaiting).await;
    assert_eq!((item.note.as_deref(), item.due_at), (Some("begun"), at("12:01:30")));
    assert_eq!(host.events().await, ["a"], "its event is published");
    advance_to_due(&world, &host, "a").await;
    let item = world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(item.attempts, 2);
}

async fn a_permanent_failure_waits_for_a_person(world: World) {
    world.script.finds(&["a", "b"]);
    world.script.fails("a", [Failure::Permanent(ErrorInfo::new("no-user", "it is gone"))]);
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.done, run.failed), (2, 1), "the other item is not stopped by it");
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.error.unwrap().code.as_str()), (State::ManualRequired, "no-user"));

    world.script.finds(&["a"]);
    let again = host.trigger().await;
    let again = world.until_run(&host, again, "finished").await;
    assert_eq!(again.summary(), "found 1, attempted 0 of 0, skipped 1 (1 for a person)");

    host.store
        .items()
        .decide(
            "job",
            "a",
            DecisionRequest::new(ManualDecision::Retry, Some("user is back"), "anna"),
            world.clock.now(),
        )
        .await
        .unwrap();
    let item = world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(item.attempts, 1, "a person's retry restarts the count");
    let trail = host.store.audit().list(100).await.unwrap();
    let by_anna: Vec<_> = trail.iter().filter(|entry| entry.actor == "anna").collect();
    assert_eq!(by_anna.len(), 1);
    assert_eq!((by_anna[0].action.as_str(), by_anna[0].subject.as_str()), ("retried_manually", "a"));
    assert_eq!(by_anna[0].detail, "manual_required -> scheduled; user is back");
}

async fn attempts_run_out(world: World) {
    world.script.finds(&["a"]);
    world.script.fails("a", (0..2).map(|_| Failure::transient("mpc-down", "no answer")));
    let retry = RetryPolicy { max_attempts: Some(2), ..job().retry };
    let host = world.host("h1", &[JobSpec { retry, ..job() }]).await;
    host.trigger().await;
    world.until_seen("h1 attempt-ended a failed").await;
    advance_to_due(&world, &host, "a").await;
    let item = world.until_state(&host, "a", State::ManualRequired).await;
    assert_eq!((item.attempts, item.error.unwrap().code.as_str()), (2, "mpc-down"));
    assert_eq!(host.attempts("a").await, "#1 failed mpc-down 12:00:30Z\n#2 exhausted mpc-down 12:01:30Z\n");
}

async fn a_panic_stays_in_its_item(world: World) {
    world.script.finds(&["a", "b"]);
    world.script.of("a", [Act::Panic]);
    let host = world.host("h1", &[job()]).await;
    host.trigger().await;
    world.until_seen("h1 attempt-ended a host-failed").await;
    world.until_state(&host, "b", State::Resolved).await;
    let item = host.item("a").await.unwrap();
    assert_eq!(
        (item.state, item.attempts, item.crashes),
        (State::Scheduled, 0, 0),
        "it is not the item's fault"
    );
    assert_eq!(item.error.unwrap().code, "host-panic");
    advance_to_due(&world, &host, "a").await;
    world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(host.events().await, ["a", "b"]);
}

/// The host fails four times, although the job allows only two attempts.
async fn failures_of_the_host_do_not_count(world: World) {
    world.script.finds(&["a"]);
    world.script.fails("a", (0..4).map(|_| Failure::host(HOST_STORE, "no answer")));
    let retry = RetryPolicy { max_attempts: Some(2), ..job().retry };
    let host = world.host("h1", &[JobSpec { retry, ..job() }]).await;
    let run = host.trigger().await;
    for failure in 1..=4 {
        world.until_count("h1 attempt-ended a host-failed", failure).await;
        let item = host.item("a").await.unwrap();
        assert_eq!((item.state, item.attempts, item.crashes), (State::Scheduled, 0, 0));
        assert_eq!(item.error.unwrap().code, HOST_STORE);
        assert_eq!(
            host.store.runs().get(run).await.unwrap().unwrap().done,
            0,
            "its attempt is still to come"
        );
        assert!(host.engine.resource_trouble().unwrap().contains("no answer"));
        advance_to_due(&world, &host, "a").await;
    }
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.done, run.failed), (1, 0));
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.attempts, item.error), (State::Resolved, 1, None));
    assert_eq!(host.events().await, ["a"]);
    let alerts = host.store.alerts().list(true, 10).await.unwrap();
    assert_eq!((alerts.len(), alerts[0].alert.kind.as_str()), (1, HOST_FAILED));
}

/// The host fails attempts, pauses, and continues without intervention.
async fn host_without_memory_continues(world: World) {
    let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    world.script.finds(&keys);
    for key in &keys {
        world.script.fails(key, [Failure::host(HOST_RESOURCES, "no memory")]);
    }
    let flow = Flow { concurrency: 8, ..Flow::default() };
    let host = world.host("h1", &[JobSpec { flow, ..job() }]).await;
    let run = host.trigger().await;
    world.until_count("h1 attempt-ended", 8).await;
    world.advance(60);
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.done, run.failed), (8, 0));
}

async fn a_job_keeps_to_its_concurrency(world: World) {
    let keys = ["a", "b", "c", "d", "e", "f"];
    world.script.finds(&keys);
    let gates = keys.map(|key| world.script.holds(key));
    let host =
        world.host("h1", &[JobSpec { flow: Flow { concurrency: 2, ..Flow::default() }, ..job() }]).await;
    let run = host.trigger().await;
    world.until_count("h1 begins", 2).await;
    gates.iter().for_each(Gate::open);
    world.until_run(&host, run, "finished").await;
    assert_eq!(world.script.running_max.load(Ordering::SeqCst), 2);
}

/// Four may run at a time, but memory suffices only for two of 64 MiB.
async fn guests_keep_to_the_memory_of_their_host(world: World) {
    let keys = ["a", "b", "c", "d", "e", "f"];
    world.script.finds(&keys);
    let gates = keys.map(|key| world.script.holds(key));
    let small = |config| EngineConfig { memory_bytes: 191 << 20, ..config };
    let host = world.host_with("h1", &[job()], small).await;
    let run = host.trigger().await;
    world.until_count("h1 begins", 2).await;
    gates.iter().for_each(Gate::open);
    world.until_run(&host, run, "finished").await;
    assert_eq!(world.script.running_max.load(Ordering::SeqCst), 2);
}

/// Two jobs wait for the only slot of this host. The one with the higher priority is first, unless the other
/// has waited long enough.
async fn priority_and_age_decide_the_order(world: World) {
    let of = |name: &str, priority| JobSpec {
        name: name.parse().unwrap(),
        flow: Flow { priority, ..Flow::default() },
        ..job()
    };
    let jobs = [job(), of("last", 9), of("first", 1)];
    let one = |config| EngineConfig { attempts_max: 1, ..config };
    let host = world.host_with("h1", &jobs, one).await;
    for (round, (waits, order)) in
        [(60 * 8 - 1, ["u0", "z0"]), (60 * 8 + 1, ["z1", "u1"])].into_iter().enumerate()
    {
        let (busy, urgent, later) = (format!("b{round}"), format!("u{round}"), format!("z{round}"));
        let gate = world.script.holds(&busy);
        for (job, key, seconds) in [("job", &busy, 0), ("last", &later, waits), ("first", &urgent, 0)] {
            world.script.finds(&[key]);
            host.engine.trigger(&job.parse().unwrap(), None, "test").await.unwrap();
            world.until(key, || async { host.store.items().get(job, key).await.unwrap() }).await;
            world.advance(seconds);
        }
        world.until_seen(&format!("h1 begins {busy} #1")).await;
        gate.open();
        for key in order {
            world.until_seen(&format!("h1 attempt-ended {key} resolved")).await;
        }
        let lines = world.seen.lines();
        let place = |key: &str| lines.iter().position(|line| *line == format!("h1 begins {key} #1"));
        assert!(place(order[0]) < place(order[1]), "{}", lines.join("\n"));
    }
}

async fn items_of_one_claim_share_instances_if_their_job_allows_it(world: World) {
    world.script.finds(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let flow = Flow { concurrency: 8, ..Flow::default() };
    let sharing = JobSpec { isolation: Isolation::Batch, flow, ..job() };
    let host = world.host("h1", &[sharing]).await;
    host.trigger().await;
    world.until_count("h1 attempt-ended", 8).await;
    let shares = |n: &str| world.script.seen.count(&format!("h1 shares {n}"));
    // Postgres may need more than one claim, but not one for each item.
    let claims = shares("1");
    assert!(shares("") == 8 && claims < 8, "{claims} claims");

    world.script.finds(&["i"]);
    host.trigger().await;
    world.until_count("h1 attempt-ended i resolved", 1).await;
    assert_eq!(shares("1"), claims + 1, "another claim begins anew");
    host.stop().await;

    world.script.finds(&["j"]);
    let alone = world.host("h2", &[job()]).await;
    alone.trigger().await;
    world.until_count("h2 attempt-ended j resolved", 1).await;
    assert_eq!(world.script.seen.count("h2 shares"), 0);
}
