//! The presence lock of a process shows other hosts that it runs. When it ends, its work is put back at once.

use std::time::Duration;

use domain::item::State;
use test_support::{Kind, PgBouncer, execute, needs, on_both, run};

use super::support::{T, at, config, host, incarnation, job, lease, start};
use crate::Store;
use crate::hosts::presence::{HostProcess, Presence, Sighting};
use crate::hosts::{HostLocation, HostStart, Taking};

on_both! {
    a_lock_is_seen_while_its_process_runs,
    a_process_without_its_session_takes_the_lock_again,
    only_hosts_with_a_recent_heartbeat_are_watched,
    work_of_an_ended_process_is_put_back_before_its_lease_ends,
    work_of_a_host_that_was_started_again_stays_with_it,
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Hosts 1 and 2 are registered. Returns the lock of host 2; none on SQLite.
async fn two_hosts(t: &T) -> Option<Presence> {
    t.host_started(1, "one", 0).await;
    t.host_started(2, "two", 0).await;
    t.store.hosts().presence(host(2), incarnation(2)).await.unwrap()
}

async fn watcher(t: &T) -> Presence {
    t.store.hosts().presence(host(1), incarnation(1)).await.unwrap().unwrap()
}

fn two() -> HostProcess {
    HostProcess { host: host(2), incarnation: incarnation(2), name: "two".to_owned() }
}

async fn sees(watcher: &mut Presence) -> Vec<Sighting> {
    watcher.others(at(0)).await.unwrap()
}

/// The server ends a session some time after its client.
async fn until_free(watcher: &mut Presence) {
    let free = async { while sees(watcher).await.iter().any(|seen| seen.is_present) {} };
    tokio::time::timeout(PATIENCE, free).await.expect("the lock becomes free");
}

async fn a_lock_is_seen_while_its_process_runs(t: T) {
    let Some(lock) = two_hosts(&t).await else {
        assert_eq!(t.kind, Kind::Sqlite, "one process works on a file");
        return;
    };
    let (mut one, mut other) = (watcher(&t).await, t.store.hosts().presence(host(3), incarnation(3)).await);
    let third = other.as_mut().unwrap().as_mut().unwrap();
    let present = Sighting { process: two(), is_present: true };
    for _ in 0..20 {
        let (first, second) = tokio::join!(sees(&mut one), sees(third));
        assert_eq!((first, second.last()), (vec![present.clone()], Some(&present)));
    }
    // As the kernel does when a process is killed: nothing more is sent.
    drop(lock);
    until_free(&mut one).await;
    // Looks of several hosts do not make a free lock appear held.
    for _ in 0..20 {
        let (first, second) = tokio::join!(sees(&mut one), sees(third));
        assert!(!first[0].is_present && !second.last().unwrap().is_present);
    }
}

async fn a_process_without_its_session_takes_the_lock_again(t: T) {
    let Some(mut lock) = two_hosts(&t).await else { return };
    let mut watcher = watcher(&t).await;
    // Its first session is still there: the second one waits for the lock.
    let again = tokio::spawn({
        let store = t.store.clone();
        async move { store.hosts().presence(host(2), incarnation(2)).await.unwrap().unwrap() }
    });
    let waits =
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) LOOP
        PERFORM pg_sleep(0.01); END LOOP; END $$";
    execute(&t.url, waits).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'
        AND (classid, objid) IN (SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    execute(&t.url, end).await;
    lock.others(at(0)).await.unwrap_err();
    let mut again = again.await.unwrap();
    assert!(sees(&mut watcher).await[0].is_present);
    again.others(at(0)).await.unwrap();
    again.end().await;
    until_free(&mut watcher).await;
}

async fn only_hosts_with_a_recent_heartbeat_are_watched(t: T) {
    let Some(_lock) = two_hosts(&t).await else { return };
    let mut watcher = watcher(&t).await;
    assert_eq!(sees(&mut watcher).await.len(), 1);
    assert_eq!(watcher.others(at(1)).await.unwrap(), [], "its leases end by themselves");
    t.store.items().renew(lease(2, 5)).await.unwrap();
    assert_eq!(watcher.others(at(1)).await.unwrap().len(), 1);
    t.tamper("UPDATE host SET incarnation = 'edited' WHERE name = 'two'").await.unwrap();
    assert_eq!(sees(&mut watcher).await, [], "a row that a person edited disturbs no other");
    t.tamper("UPDATE host SET incarnation = '' WHERE name = 'two'").await.unwrap();
    assert_eq!(sees(&mut watcher).await, [], "an older version takes no lock");
    t.store.hosts().stopped(host(2), incarnation(2), at(6)).await.unwrap();
    assert_eq!(sees(&mut watcher).await, [], "a host that stopped holds no work");
}

async fn work_of_an_ended_process_is_put_back_before_its_lease_ends(t: T) {
    let lock = two_hosts(&t).await;
    t.discover(&job(), &["a"], 0).await;
    let item = t.store.items().claim(&job(), lease(2, 0), 1).await.unwrap().remove(0);
    t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    t.store.runs().claim(&job().name, lease(2, 0)).await.unwrap().unwrap();
    let recover = || async { t.store.items().recover_ended(&two(), |_| 3, at(1)).await.unwrap() };
    if let Some(lock) = lock {
        assert!(recover().await.is_none(), "its lock shows that it runs");
        let mut watcher = watcher(&t).await;
        lock.end().await;
        until_free(&mut watcher).await;
    }
    let recovered = recover().await.unwrap();
    assert_eq!((recovered.len(), recovered[0].key.as_str(), recovered[0].state), (1, "a", State::Scheduled));
    assert_eq!((item.key.as_str(), t.claim_one(1).await.epoch), ("a", item.epoch + 1));
    assert!(t.store.runs().claim(&job().name, lease(1, 1)).await.unwrap().is_some(), "its run goes on, too");
    assert_eq!(recover().await.unwrap().len(), 0);
}

async fn work_of_a_host_that_was_started_again_stays_with_it(t: T) {
    two_hosts(&t).await;
    let again =
        HostStart { place: HostLocation::Folder("two".to_owned()), ..start(2, "two", incarnation(22)) };
    assert_eq!(t.store.hosts().take(&again, None, at(1)).await.unwrap(), Taking::Taken);
    t.discover(&job(), &["a"], 1).await;
    t.store.items().claim(&job(), lease(2, 1), 1).await.unwrap().remove(0);
    let recovered = t.store.items().recover_ended(&two(), |_| 3, at(2)).await.unwrap();
    assert!(recovered.is_none(), "the work belongs to the next start: {recovered:?}");
    assert_eq!(t.running().await, 1);
}

/// Behind a pooler of sessions, the lock ends with its client. A pooler that does not clean up keeps it: then leases
/// decide.
async fn behind_a_pooler(t: T, settings: &[&str], is_kept: bool) {
    let bouncer = PgBouncer::start(&t.url, &[&["pool_mode = session"], settings].concat()).await;
    let behind = Store::open(&config(&bouncer.url(&t.url), &t.shop_url)).await.unwrap();
    t.host_started(2, "two", 0).await;
    let lock = behind.hosts().presence(host(2), incarnation(2)).await.unwrap().unwrap();
    let mut watcher = watcher(&t).await;
    assert!(sees(&mut watcher).await[0].is_present);
    lock.end().await;
    match is_kept {
        false => until_free(&mut watcher).await,
        true => {
            assert!(sees(&mut watcher).await[0].is_present);
            let recovered = t.store.items().recover_ended(&two(), |_| 3, at(1)).await.unwrap();
            assert!(recovered.is_none());
        }
    }
    behind.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_behind_a_pooler_ends_with_its_client() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| behind_a_pooler(t, &[], false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_a_pooler_keeps_takes_no_work_away() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| behind_a_pooler(t, &["server_reset_query ="], true)).await;
}
