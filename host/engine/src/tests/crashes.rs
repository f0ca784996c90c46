//! Hosts that crash: the items that they held are recovered and run first.

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use domain::retry::RetryPolicy;
use jiff::SignedDuration;
use test_support::on_both;

use super::fake::{Gate, Look, page};
use super::world::{Host, World, at, job};
use crate::EngineConfig;

on_both![
    a_restarted_host_takes_its_work_back_at_once,
    another_host_takes_it_when_the_lease_has_ended,
    an_item_that_kills_its_host_each_time_waits_for_a_person,
    a_discovery_goes_on_after_a_crash,
];

fn one_at_a_time() -> JobSpec {
    JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() }
}

fn fifteen_seconds(config: EngineConfig) -> EngineConfig {
    EngineConfig { lease_ttl: SignedDuration::from_secs(15), ..config }
}

/// A host that holds `a` while `b` and `c` wait.
async fn holds_a(world: &World, change: impl FnOnce(EngineConfig) -> EngineConfig) -> Host {
    world.script.finds(&["a", "b", "c"]);
    world.script.holds("a");
    let host = world.host_with("h1", &[one_at_a_time()], change).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_seen("h1 discovered").await;
    host
}

fn begun(world: &World, host: &str) -> Vec<String> {
    let start = format!("{host} begins ");
    world.seen.lines().iter().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
}

async fn a_restarted_host_takes_its_work_back_at_once(world: World) {
    let host = holds_a(&world, |config| config).await;
    // `a` is now due later than the others: only its priority puts it first.
    world.advance(1);
    host.crash();
    world.until_seen("dropped h1 a").await;
    let host = world.host("h1", &[one_at_a_time()]).await;
    let run = host.store.runs().list(None, 1).await.unwrap().remove(0);
    let run = world.until_run(&host, run.id, "finished").await;
    assert_eq!(run.summary(), "found 3, attempted 3 of 3, skipped 0");
    assert_eq!(begun(&world, "h1"), ["a #1", "a #1", "b #1", "c #1"], "ahead of new work, same attempt");
    assert_eq!(host.attempts("a").await, "#1 lost 12:00:30Z\n#1 resolved 12:00:31Z\n");
    let item = host.item("a").await.unwrap();
    assert_eq!((item.attempts, item.crashes), (1, 0), "an end makes up for the crash");
    assert_eq!(host.events().await, ["a", "b", "c"]);
    let trail = host.store.audit().list(100).await.unwrap();
    let lost: Vec<_> = trail.iter().filter(|entry| entry.action == "lost").collect();
    assert_eq!((lost.len(), lost[0].subject.as_str()), (1, "a"), "the trail tells of it, item by item");
}

async fn another_host_takes_it_when_the_lease_has_ended(world: World) {
    holds_a(&world, fifteen_seconds).await.crash();
    world.until_seen("dropped h1 a").await;
    let host = world.host_with("h2", &[one_at_a_time()], fifteen_seconds).await;
    world.until_state(&host, "c", State::Resolved).await;
    world.advance(14);
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.epoch), (State::Running, 1), "the lease goes on");
    world.advance(6);
    world.until_seen("h2 recovered a").await;
    world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(host.attempts("a").await, "#1 lost 12:00:30Z\n#1 resolved 12:00:50Z\n");
    assert_eq!(host.events().await, ["a", "b", "c"]);
    // Each of the two attempts has raised it.
    assert_eq!(host.item("a").await.unwrap().epoch, 3);
}

async fn an_item_that_kills_its_host_each_time_waits_for_a_person(world: World) {
    let retry = RetryPolicy { crashes_max: 2, ..job().retry };
    let fragile = [JobSpec { retry, ..one_at_a_time() }];
    world.script.finds(&["a", "b"]);
    world.script.holds("a");
    world.script.holds("a");
    let host = world.host("h1", &fragile).await;
    host.trigger().await;
    world.until_seen("h1 discovered").await;
    world.until_count("h1 begins a #1", 1).await;
    host.crash();
    let host = world.host("h1", &fragile).await;
    world.until_count("h1 begins a #1", 2).await;
    host.crash();
    let host = world.host("h1", &fragile).await;
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.crashes), (State::ManualRequired, 2));
    let error = item.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("poison", "its host was lost 2 times in a row while it ran")
    );
    world.until_state(&host, "b", State::Resolved).await;
    let run = host.store.runs().list(None, 1).await.unwrap().remove(0);
    assert_eq!((run.state.as_str(), run.done), ("finished", 2), "a run does not wait for a person");
}

async fn a_discovery_goes_on_after_a_crash(world: World) {
    world.script.look(Look::Page(page(&["a"], Some("2"))));
    world.script.look(Look::Hold(Gate::new(), page(&["lost"], None)));
    world.script.finds(&["b"]);
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    world.until_seen("h1 discovers from 2").await;
    host.crash();
    let host = world.host("h1", &[job()]).await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!(run.discovered.found, 2);
    assert_eq!(world.seen.count("h1 discovers from 2"), 2);
    assert_eq!(run.created_at, at("12:00:30"));
}
