//! Ticks create runs, runs create items, items create attempts.

use domain::flow::{Flow, Rate};
use domain::item::State;
use domain::job::JobSpec;
use domain::schedule::tick::Overlap;
use expect_test::expect;
use jiff::SignedDuration;
use test_support::on_both;

use super::fake::{Look, page};
use super::world::{World, each_minute, job};

on_both![
    a_tick_becomes_a_finished_run,
    a_tick_while_a_run_is_open_is_skipped,
    after_an_absence_one_tick_runs,
    a_run_queues_up_to_its_cap,
    attempts_keep_to_the_rate,
    a_run_waits_until_its_plugin_is_ready,
    manual_runs_queue_behind_each_other,
    a_paused_job_begins_nothing,
    an_instant_waits_for_the_open_run,
    a_job_begins_at_its_own_moment,
    jobs_can_be_replaced_while_work_runs,
];

async fn a_tick_becomes_a_finished_run(world: World) {
    world.script.finds(&["a", "b", "c"]);
    let host = world.host("h1", &[each_minute()]).await;
    assert_eq!(host.ticks().await, "", "a new job's schedule starts now");
    world.advance(30);
    world.until_seen("h1 ticked ran").await;
    let run = host.store.runs().list(Some("job"), 10).await.unwrap().remove(0);
    assert_eq!(run.started_by, "schedule");
    let run = world.until_run(&host, run.id, "finished").await;
    assert_eq!(run.summary(), "found 3, attempted 3 of 3, skipped 0");
    assert_eq!((run.failed, run.error), (0, None));
    assert_eq!(host.ticks().await, "12:01:00Z ran\n");
    for key in ["a", "b", "c"] {
        let item = host.item(key).await.unwrap();
        assert_eq!((item.state, item.attempts, item.host), (State::Resolved, 1, None), "{key}");
        assert_eq!(host.attempts(key).await, "#1 resolved 12:01:00Z\n");
    }
    assert_eq!(host.events().await, ["a", "b", "c"], "one of each resolved attempt");
}

async fn a_tick_while_a_run_is_open_is_skipped(world: World) {
    world.script.finds(&["a"]);
    let gate = world.script.holds("a");
    let host = world.host("h1", &[each_minute()]).await;
    world.advance(30);
    world.until_seen("h1 begins a #1").await;
    world.advance(60);
    world.until_seen("h1 ticked overlap").await;
    gate.open();
    world.until_state(&host, "a", State::Resolved).await;
    world.advance(60);
    world.until_count("h1 ticked ran", 2).await;
    assert_eq!(host.ticks().await, "12:01:00Z ran\n12:02:00Z overlap\n12:03:00Z ran\n");
    assert_eq!(host.store.runs().list(Some("job"), 10).await.unwrap().len(), 2);
}

async fn after_an_absence_one_tick_runs(world: World) {
    let host = world.host("h1", &[each_minute()]).await;
    world.advance(30);
    world.until_count("h1 discovered", 1).await;
    host.stop().await;
    drop(host);
    world.advance(250);
    let host = world.host("h1", &[each_minute()]).await;
    world.until_count("h1 discovers", 2).await;
    expect![[r#"
        12:01:00Z ran
        12:02:00Z coalesced
        12:03:00Z coalesced
        12:04:00Z coalesced
        12:05:00Z ran
    "#]]
    .assert_eq(&host.ticks().await);
}

async fn a_run_queues_up_to_its_cap(world: World) {
    for keys in [&["a", "b", "c", "d", "e"][..], &["c", "d", "e"], &["e"]] {
        world.script.finds(keys);
    }
    let host = world
        .host("h1", &[JobSpec { flow: Flow { items_per_run_max: Some(2), ..Flow::default() }, ..job() }])
        .await;
    let mut summaries = String::new();
    for _ in 0..3 {
        let run = host.trigger().await;
        let run = world.until_run(&host, run, "finished").await;
        summaries.push_str(&format!("{}\n", run.summary()));
    }
    expect![[r#"
        found 5, attempted 2 of 2, skipped 3 (3 over the cap)
        found 3, attempted 2 of 2, skipped 1 (1 over the cap)
        found 1, attempted 1 of 1, skipped 0
    "#]]
    .assert_eq(&summaries);
    assert_eq!(host.events().await, ["a", "b", "c", "d", "e"]);
}

async fn attempts_keep_to_the_rate(world: World) {
    world.script.finds(&["a", "b", "c", "d", "e"]);
    let rate = Rate { attempts_max: 2, window: SignedDuration::from_mins(1) };
    let host =
        world.host("h1", &[JobSpec { flow: Flow { rate: Some(rate), ..Flow::default() }, ..job() }]).await;
    let run = host.trigger().await;
    world.until_count("h1 attempt-ended", 2).await;
    world.advance(30);
    world.until_count("h1 attempt-ended", 4).await;
    world.advance(60);
    world.until_run(&host, run, "finished").await;
    let mut began = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        began.push(host.attempts(key).await);
    }
    began.sort();
    expect![[r#"
        #1 resolved 12:00:30Z
        #1 resolved 12:00:30Z
        #1 resolved 12:01:00Z
        #1 resolved 12:01:00Z
        #1 resolved 12:02:00Z
    "#]]
    .assert_eq(&began.concat());
}

async fn a_run_waits_until_its_plugin_is_ready(world: World) {
    world.script.blocked.store(true, std::sync::atomic::Ordering::Relaxed);
    world.script.finds(&["a"]);
    let host = world.host("h1", &[each_minute()]).await;
    world.advance(30);
    world.until_seen("h1 ticked ran").await;
    world.advance(60);
    world.until_seen("h1 ticked overlap").await;
    assert_eq!(world.seen.count("h1 discovers"), 0, "it was not asked while it was not ready");
    world.script.blocked.store(false, std::sync::atomic::Ordering::Relaxed);
    host.engine.plugins_changed();
    world.until_state(&host, "a", State::Resolved).await;
}

async fn manual_runs_queue_behind_each_other(world: World) {
    let gate = super::fake::Gate::new();
    world.script.look(Look::Hold(gate.clone(), page(&["a"], None)));
    world.script.finds(&["b"]);
    let host = world.host("h1", &[job()]).await;
    let (first, second) = (host.trigger().await, host.trigger().await);
    world.until_count("h1 discovers", 1).await;
    gate.open();
    world.until_run(&host, first, "finished").await;
    world.until_run(&host, second, "finished").await;
    assert_eq!(host.events().await, ["a", "b"]);
    let unknown = host.engine.trigger(&"nobody".parse().unwrap(), None, "test").await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no job \"nobody\"");
}

/// Neither scheduled nor manual runs start until the job is resumed.
async fn a_paused_job_begins_nothing(world: World) {
    world.script.finds(&["a"]);
    let host = world.host("h1", &[each_minute()]).await;
    host.store.jobs().pause(Some(&super::world::job_name()), "ada", world.clock.now()).await.unwrap();
    let run = host.trigger().await;
    world.advance(30);
    world.until_seen("h1 ticked paused").await;
    assert_eq!(world.seen.count("h1 discovers"), 0);
    host.store.jobs().resume(Some(&super::world::job_name()), "ada", world.clock.now()).await.unwrap();
    world.until_run(&host, run, "finished").await;
    assert_eq!(host.ticks().await, "12:01:00Z paused\n");
}

async fn an_instant_waits_for_the_open_run(world: World) {
    world.script.finds_each_time(&["a"], 2);
    let gate = world.script.holds("a");
    let mut job = each_minute();
    job.ticks.overlap = Overlap::BufferOne;
    let host = world.host("h1", &[job]).await;
    world.advance(30);
    world.until_seen("h1 begins a #1").await;
    world.advance(60);
    world.until_seen("h1 ticked buffered").await;
    world.advance(60);
    world.until_count("h1 ticked buffered", 2).await;
    gate.open();
    world.until_state(&host, "a", State::Resolved).await;
    world.advance(2);
    world.until_count("h1 discovered", 2).await;
    assert_eq!(host.ticks().await, "12:01:00Z ran\n12:02:00Z overlap\n12:03:00Z ran\n");
}

/// A jitter delays each run of the job by the same offset.
async fn a_job_begins_at_its_own_moment(world: World) {
    let mut job = each_minute();
    job.ticks.jitter = SignedDuration::from_secs(60);
    let offset = job.ticks.offset(job.name.as_str());
    assert!(offset > SignedDuration::from_secs(1), "{offset}");
    let host = world.host("h1", &[job]).await;
    world.advance(30);
    world.clock.advance(offset - SignedDuration::from_secs(1));
    world.clock.advance(SignedDuration::from_secs(1));
    world.until_seen("h1 ticked ran").await;
    let run = host.store.runs().list(Some("job"), 1).await.unwrap().remove(0);
    assert_eq!(run.created_at, super::world::at("12:01:00") + offset);
    assert_eq!(host.ticks().await, "12:01:00Z ran\n");
}

/// Running work ends under the old jobs, the next due instants follow the new ones, and a
/// removed job starts nothing.
async fn jobs_can_be_replaced_while_work_runs(world: World) {
    world.script.finds(&["a", "b"]);
    let gate = world.script.holds("a");
    let host =
        world.host("h1", &[JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() }]).await;
    let run = host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    host.engine.set_jobs(Vec::new()).await.unwrap();
    gate.open();
    world.until_state(&host, "a", State::Resolved).await;
    let gone = host.engine.trigger(&super::world::job_name(), None, "test").await.unwrap_err();
    assert_eq!(gone.to_string(), "there is no job \"job\"");
    assert_eq!(host.item("b").await.unwrap().state, State::Scheduled);

    host.engine.set_jobs(vec![each_minute().into()]).await.unwrap();
    world.until_run(&host, run, "finished").await;
    world.advance(30);
    world.until_seen("h1 ticked ran").await;
    assert_eq!(host.ticks().await, "12:01:00Z ran\n", "another schedule starts when it is put in effect");
}
