//! Loops that fail are restarted and lose no state.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use store::tasks::Tasks;
use test_support::on_both;
use tokio_util::sync::CancellationToken;

use super::world::{Host, World, job};

/// Maximum wait for a loop, in real time.
const PATIENCE: Duration = Duration::from_secs(30);

on_both!(
    loops_that_panic_go_on,
    an_attempt_keeps_its_place_when_the_queue_fails,
    nothing_is_claimed_while_the_heartbeat_is_down,
);

/// Checks the condition after each change.
async fn until(tasks: &Tasks, holds: impl Fn(&Tasks) -> bool) {
    let wait = async {
        loop {
            let changed = tasks.changed();
            if holds(tasks) {
                return;
            }
            changed.await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the loops fail, or run again");
}

fn failures(host: &Host) -> u64 {
    host.store.tasks().status().iter().map(|task| task.failures).sum()
}

async fn loops_that_panic_go_on(world: World) {
    world.script.panics.store(3, Ordering::SeqCst);
    world.script.finds(&["a"]);
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    world.until_run(&host, run, "finished").await;
    world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(failures(&host), 3);
    let down = host.store.tasks().status().into_iter().find_map(|task| task.down);
    assert!(down.is_some_and(|why| why == "it panicked: readiness"), "it has to run for a while first");
    let names: Vec<String> = host.store.tasks().status().into_iter().map(|task| task.name).collect();
    for name in ["committer", "discovery", "heartbeat", "queue", "recovery", "scheduler", "upkeep"] {
        assert!(names.iter().any(|task| task == name), "{name} is not among {names:?}");
    }
    let at_stop = failures(&host);
    host.stop().await;
    assert_eq!(failures(&host), at_stop, "no loop ends before it should");
}

async fn an_attempt_keeps_its_place_when_the_queue_fails(world: World) {
    world.script.finds(&["a", "b"]);
    let gates = ["a", "b"].map(|key| world.script.holds(key));
    let one = JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() };
    let host = world.host("h1", &[one]).await;
    let run = host.trigger().await;
    world.until_count("h1 begins", 1).await;
    world.until_seen("h1 discovered").await;
    world.script.panics.store(2, Ordering::SeqCst);
    host.store.feed().wake_here();
    until(host.store.tasks(), |_| failures(&host) == 2).await;
    until(host.store.tasks(), |tasks| !tasks.is_down("queue")).await;
    gates.iter().for_each(super::fake::Gate::open);
    world.until_run(&host, run, "finished").await;
    assert_eq!(world.script.running_max.load(Ordering::SeqCst), 1);
}

async fn nothing_is_claimed_while_the_heartbeat_is_down(world: World) {
    let host = world.host("h1", &[job()]).await;
    let stop = CancellationToken::new();
    // Simulates a failure of the heartbeat.
    let mut fails = true;
    let heartbeat = move || {
        let panics = std::mem::take(&mut fails);
        async move {
            if panics {
                std::panic::resume_unwind(Box::new("the heartbeat"));
            }
            std::future::pending().await
        }
    };
    let tasks = host.store.tasks().clone();
    let supervised = tokio::spawn(tasks.clone().supervise("heartbeat", stop, heartbeat));
    until(&tasks, |tasks| tasks.is_down("heartbeat")).await;
    world.script.finds(&["a"]);
    let run = host.trigger().await;
    until(&tasks, |tasks| !tasks.is_down("heartbeat")).await;
    assert_eq!(world.seen.count("h1 discovers"), 0, "no run was claimed");
    host.store.feed().wake_here();
    world.until_run(&host, run, "finished").await;
    supervised.abort();
}
