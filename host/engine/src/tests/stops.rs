//! An orderly stop loses no work and counts no failure.

use std::time::Duration;

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use test_support::on_both;

use super::world::{World, each_minute, job};
use crate::EngineConfig;

on_both![attempts_end_within_the_grace, attempts_that_do_not_end_are_put_back, stopped_host_claims_nothing];

fn short(config: EngineConfig) -> EngineConfig {
    EngineConfig { stop_grace: Duration::from_millis(1), ..config }
}

async fn attempts_end_within_the_grace(world: World) {
    world.script.finds(&["a", "b"]);
    let gate = world.script.holds("a");
    let host =
        world.host("h1", &[JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() }]).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    tokio::join!(host.stop(), async { gate.open() });
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.note.as_deref()), (State::Resolved, Some("held")));
    assert_eq!(host.item("b").await.unwrap().state, State::Scheduled, "no new work after the signal");
    assert_eq!(host.events().await, ["a"]);
    let hosts = host.store.hosts().list(10).await.unwrap();
    assert_eq!(hosts[0].stopped_at, Some(world.clock.now()));
}

async fn attempts_that_do_not_end_are_put_back(world: World) {
    world.script.finds(&["a", "b", "c"]);
    world.script.holds("b");
    let one = JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() };
    let host = world.host_with("h1", std::slice::from_ref(&one), short).await;
    let run = host.trigger().await;
    world.until_seen("h1 begins b #1").await;
    // `b` is now due later than the others: only its priority puts it first.
    world.advance(1);
    host.stop().await;
    assert!(world.seen.has("dropped h1 b"), "its future was dropped: {:?}", world.seen.lines());
    let item = host.item("b").await.unwrap();
    assert_eq!((item.state, item.attempts, item.crashes, item.host), (State::Scheduled, 0, 0, None));
    assert_eq!(host.attempts("b").await, "#1 interrupted 12:00:30Z\n");
    assert_eq!(host.events().await, ["a"]);
    assert_eq!(host.store.runs().get(run).await.unwrap().unwrap().state, "running", "it waits for b and c");
    drop(host);

    let host = world.host("h1", &[one]).await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.done, run.failed), (3, 0));
    let lines = world.seen.lines();
    let place = |line: &str| lines.iter().rposition(|seen| seen == line);
    assert!(place("h1 begins b #1") < place("h1 begins c #1"), "what was begun goes first: {lines:?}");
    assert_eq!(host.attempts("b").await, "#1 interrupted 12:00:30Z\n#1 resolved 12:00:31Z\n");
}

async fn stopped_host_claims_nothing(world: World) {
    world.script.finds(&["a"]);
    let host = world.host("h1", &[each_minute()]).await;
    host.stop().await;
    host.stop().await;
    host.trigger().await;
    world.advance(30);
    drop(host);
    assert_eq!((world.seen.count("h1 ticked"), world.seen.count("h1 discovers")), (0, 0));
    let host = world.host("h1", &[each_minute()]).await;
    world.until_state(&host, "a", State::Resolved).await;
}
