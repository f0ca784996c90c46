//! Two hosts on one Postgres.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use test_support::{Kind, execute, needs};

use super::world::{World, each_minute};
use crate::EngineConfig;

const ITEMS: usize = 60;
const TICKS: usize = 5;

/// With this period, hosts find each other's work by polling.
fn looks_often(config: EngineConfig) -> EngineConfig {
    EngineConfig { poll_period: Duration::from_millis(20), ..config }
}

#[tokio::test]
async fn two_hosts_share_ticks_and_items() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let job = JobSpec { flow: Flow { concurrency: 3, ..Flow::default() }, ..each_minute() };
    let keys: Vec<String> = (0..ITEMS).map(|number| format!("k{number:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    world.script.finds_each_time(&keys, TICKS);
    let one = world.host_with("h1", std::slice::from_ref(&job), looks_often).await;
    let two = world.host_with("h2", &[job], looks_often).await;
    world.advance(30);
    for tick in 1..=TICKS {
        let finished = || async {
            let runs = one.store.runs().list(Some("job"), 100).await.unwrap();
            (runs.len() == tick && runs.iter().all(|run| run.state == "finished")).then_some(())
        };
        world.until(&format!("run {tick} to be finished"), finished).await;
        world.advance(60);
    }
    one.stop().await;
    two.stop().await;

    let ticks = one.ticks().await;
    assert!(ticks.lines().take(TICKS).all(|tick| tick.ends_with(" ran")), "{ticks}");
    assert_eq!(
        world.seen.count("h1 ticked ran") + world.seen.count("h2 ticked ran"),
        ticks.matches("ran").count()
    );
    for key in &keys {
        let attempts = one.store.items().attempts("job", key, 100).await.unwrap();
        let ended: BTreeSet<_> = attempts.iter().map(|attempt| attempt.epoch).collect();
        assert_eq!((attempts.len(), ended.len()), (TICKS, TICKS), "{key}");
        assert!(attempts.iter().all(|attempt| attempt.verdict == "resolved"), "{key}");
    }
    let begun = |host: &str| world.seen.count(&format!("{host} begins"));
    assert_eq!(begun("h1") + begun("h2"), ITEMS * TICKS, "no item is attempted twice");
    assert!(begun("h1") > 0 && begun("h2") > 0, "both work: {} and {}", begun("h1"), begun("h2"));
    assert_eq!(one.events().await.len(), ITEMS * TICKS);
}

/// A host that frees the shared slot wakes the other host: no host polls in this test.
#[tokio::test]
async fn two_hosts_share_one_place() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let flow = Flow { concurrency_total: Some(1), ..Flow::default() };
    let job = JobSpec { flow, ..super::world::job() };
    let keys: Vec<String> = (0..ITEMS).map(|number| format!("k{number:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    world.script.finds(&keys);
    let gate = world.script.holds("k00");
    let one = world.host("h1", std::slice::from_ref(&job)).await;
    let two = world.host("h2", &[job]).await;
    let run = one.trigger().await;
    world
        .until("k00 to begin", || async { one.item("k00").await.filter(|item| item.state == State::Running) })
        .await;
    gate.open();
    world.until_run(&two, run, "finished").await;
    assert_eq!(world.script.running_max.load(Ordering::SeqCst), 1);
}

/// Without notifications, each host sees the work and the decisions of the other one by itself.
#[tokio::test]
async fn two_hosts_without_notifications_share_their_work() {
    needs!(Postgres);
    let world = World { notify: false, ..World::on(Kind::Postgres).await };
    world.script.finds_each_time(&["a"], 2);
    let one = world.host("h1", &[]).await;
    let two = world.host("h2", &[super::world::job()]).await;
    let (name, now) = (super::world::job_name(), world.clock.now());
    let trigger = || async { one.store.jobs().trigger(&name, None, "test", now).await.unwrap() };
    let run = trigger().await;
    world.until_run(&two, run, "finished").await;
    one.store.jobs().pause(Some(&name), "test", now).await.unwrap();
    let run = trigger().await;
    one.store.jobs().resume(Some(&name), "test", now).await.unwrap();
    world.until_run(&two, run, "finished").await;
    let listens =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    execute(&world.database.url, &format!("SELECT 1 / (1 - ({listens}))")).await;
}
