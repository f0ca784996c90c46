//! Outages of the store: guests end before another host may hold their items, and none of
//! their effects are kept.

use std::sync::atomic::Ordering;

use domain::effect::NewItem;
use domain::item::State;
use domain::job::{JobSpec, OnStoreLoss};
use domain::outcome::Outcome;
use jiff::SignedDuration;
use test_support::{Kind, TableLock, needs, on_both};

use super::fake::{Act, Look, page};
use super::world::{Host, World, at, each_minute, job, job_name};
use crate::EngineConfig;

on_both! { only_the_refused_item_or_page_fails }

fn fifteen_seconds(config: EngineConfig) -> EngineConfig {
    EngineConfig { lease_ttl: SignedDuration::from_secs(15), ..config }
}

/// A host whose attempt of `a` never ends.
async fn works_on_a(world: &World) -> Host {
    world.script.finds(&["a"]);
    world.script.holds("a");
    let host = world.host_with("h1", &[job()], fifteen_seconds).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_seen("h1 discovered").await;
    host
}

/// A host that holds `a` and cannot renew, at the last moment before its lease ends.
async fn loses_its_store(world: &World, cut_off: impl AsyncFnOnce(&Host)) -> Host {
    let host = works_on_a(world).await;
    cut_off(&host).await;
    world.advance(5);
    world.until_seen("h1 store-lost").await;
    assert!(!world.seen.has("dropped h1 a"), "the lease is good for a while yet");
    world.advance(9);
    world.until_seen("dropped h1 a").await;
    assert_eq!(world.clock.now(), at("12:00:44"), "before the lease ended at 12:00:45");
    host
}

#[tokio::test]
async fn guests_end_before_their_leases_on_sqlite() {
    let world = World::on(Kind::Sqlite).await;
    let host = loses_its_store(&world, async |host| host.store.close().await).await;
    host.crash();
    let host = world.host_with("h2", &[job()], fifteen_seconds).await;
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.epoch), (State::Running, 1), "nothing was committed");
    assert_eq!(host.events().await, Vec::<String>::new());
    world.advance(10);
    world.until_state(&host, "a", State::Resolved).await;
    assert_eq!(host.events().await, ["a"]);
}

/// The same host continues when the store is back.
#[tokio::test]
async fn guests_end_before_their_leases_on_postgres() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let database = &world.database;
    let host = loses_its_store(&world, async |_| database.cut_off().await).await;
    database.let_in().await;
    world.advance(2);
    world.until_seen("h1 recovered a").await;
    world.until_seen("h1 store-back").await;
    let item = world.until_state(&host, "a", State::Resolved).await;
    assert_eq!((item.epoch, item.attempts), (3, 1));
    assert_eq!(host.attempts("a").await, "#1 lost 12:00:30Z\n#1 resolved 12:00:46Z\n");
    assert_eq!(host.events().await, ["a"]);
}

/// A process that was suspended for longer than its leases ends its guests before it reads the store.
#[tokio::test]
async fn guests_end_when_their_host_was_suspended_beyond_its_leases() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let host = works_on_a(&world).await;
    world.advance(16);
    world.until_seen("dropped h1 a").await;
    world.advance(5);
    world.until_seen("h1 recovered a").await;
    world.until_state(&host, "a", State::Resolved).await;
    assert!(!world.seen.has("h1 store-lost"), "the store was there all the time");
    assert_eq!(host.events().await, ["a"]);
}

/// Leases are lost during a claim: no task works on the claimed item, and it is recovered.
#[tokio::test]
async fn claim_that_arrives_after_leases_are_lost_is_put_back() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let database = &world.database;
    let host = works_on_a(&world).await;
    world.script.blocked.store(true, Ordering::Relaxed);
    let item = NewItem { job: job_name(), key: "b".to_owned(), payload: "{}".to_owned() };
    host.store.items().add(&item, "test", world.clock.now()).await.unwrap();
    let locked = TableLock::take(&database.url, "claim").await;
    world.advance(9);
    world.script.blocked.store(false, Ordering::Relaxed);
    host.store.feed().wake_here();
    database.until_waits("INSERT INTO claim").await;
    world.advance(5);
    world.until_seen("dropped h1 a").await;
    locked.release().await;
    world.until_seen("h1 store-back").await;
    // No event reports a claim whose attempts do not start. If the claim is slow, time has to
    // pass after it, too.
    world.until_passed(&host, "h1 recovered b").await;
    world.until_state(&host, "b", State::Resolved).await;
}

/// An attempt that ended during an outage is committed after it, not repeated.
#[tokio::test]
async fn an_outcome_waits_for_the_store() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let database = &world.database;
    world.script.finds(&["a"]);
    let gate = world.script.holds("a");
    let host = world.host("h1", &[job()]).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_seen("h1 discovered").await;
    database.cut_off().await;
    gate.open();
    world.advance(5);
    world.until_seen("h1 store-lost").await;
    database.let_in().await;
    world.until_seen("h1 attempt-ended a resolved").await;
    assert_eq!(host.attempts("a").await, "#1 resolved 12:00:30Z\n");
    assert_eq!(host.events().await, ["a"]);
}

fn goes_on() -> JobSpec {
    JobSpec { on_store_loss: OnStoreLoss::ContinueIdempotent, ..job() }
}

/// Its outcome is committed after the outage, although the lease ended long before: no other
/// host took the item.
#[tokio::test]
async fn f12_job_with_continue_idempotent_continues_without_its_store() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let database = &world.database;
    world.script.finds(&["a"]);
    let gate = world.script.holds("a");
    let host = world.host_with("h1", &[goes_on()], fifteen_seconds).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_seen("h1 discovered").await;
    database.cut_off().await;
    world.advance(5);
    world.until_seen("h1 store-lost").await;
    for _ in 0..6 {
        world.advance(5);
    }
    gate.open();
    database.let_in().await;
    world.advance(5);
    world.until_seen("h1 attempt-ended a resolved").await;
    assert!(!world.seen.has("dropped h1 a"), "it was not stopped");
    assert_eq!(host.attempts("a").await, "#1 resolved 12:00:30Z\n");
    assert_eq!(host.events().await, ["a"]);
}

/// The same host requests a page again after the outage if the page could not be written.
#[tokio::test]
async fn a_discovery_goes_on_after_an_outage() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let database = &world.database;
    let gate = super::fake::Gate::new();
    world.script.look(Look::Page(page(&["a"], Some("2"))));
    world.script.look(Look::Hold(gate.clone(), page(&["b"], None)));
    world.script.finds(&["b"]);
    let host = world.host("h1", &[each_minute()]).await;
    let run = host.trigger().await;
    world.until_seen("h1 discovers from 2").await;
    world.until_state(&host, "a", State::Resolved).await;
    database.cut_off().await;
    gate.open();
    world.advance(5);
    world.until_seen("h1 store-lost").await;
    database.let_in().await;
    world.advance(5);
    world.until_seen("h1 store-back").await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!(run.summary(), "found 2, attempted 2 of 2, skipped 0");
    world.advance(60);
    world.until_seen("h1 ticked ran").await;
}

/// No database stores a zero byte in a text. An outcome and a page that contain one fail
/// alone, the outcome permanently.
async fn only_the_refused_item_or_page_fails(world: World) {
    world.script.finds(&["a", "b"]);
    world.script.of("a", [Act::End(Ok(Outcome::Resolved { note: Some("a\0b".to_owned()) }))]);
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.done, run.failed), (2, 1));
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.attempts, item.note), (State::ManualRequired, 1, None));
    assert_eq!(item.error.unwrap().code, "not-written");
    assert_eq!(host.events().await, ["b"]);

    world.script.finds(&["c", "\0"]);
    let run = host.trigger().await;
    let run = world.until_run(&host, run, "failed").await;
    assert_eq!(run.error.unwrap().code, "not-written");
    assert!(host.item("c").await.is_none(), "a page is written whole or not");
    world.script.finds(&["d"]);
    host.trigger().await;
    world.until_state(&host, "d", State::Resolved).await;
}
