//! Attempts that increment one counter: under a lock of two jobs and two hosts, or in a key by
//! compare-and-set.

use domain::item::State;
use domain::job::{Access, Capability, Grants, JobSpec};
use jiff::SignedDuration;
use store::attempts::locks::LockResult;
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual, start_of_time};
use crate::support::plugins;

on_both!(under_a_lock_nothing_is_lost, a_key_that_is_swapped_loses_nothing);

const ITEMS: i64 = 6;

fn counter(name: &str, counts_in: &str) -> JobSpec {
    let mut job = JobSpec { plugin: "counter".parse().unwrap(), ..job(name) };
    job.grants = Grants {
        datasources: [("business".to_owned(), Access::ReadWrite)].into(),
        locks: ["count*".parse().unwrap()].into(),
        capabilities: [Capability::KeyValue].into(),
        ..Grants::default()
    };
    let config = [("in", counts_in), ("count", &ITEMS.to_string()), ("work_ms", "20")];
    // Items that wait for one lock retry at the same time, and one of them gets it.
    job.retry.min_delay = Some(SignedDuration::from_secs(1));
    job.retry.cap = SignedDuration::from_secs(5);
    job.config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    job
}

async fn databases(kind: Kind) -> Databases {
    let databases = Databases::new(kind).await;
    databases.business("CREATE TABLE counter (n BIGINT); INSERT INTO counter (n) VALUES (0)").await;
    plugins::install(&databases.dir.path().join("plugins"), "counter", "counter");
    databases
}

/// Advances the clock until all items are done.
async fn work_off(host: &mut Host, jobs: &[&str]) {
    for job in jobs {
        let now = host.app.clock.now();
        host.app.store.jobs().trigger(&job.parse().unwrap(), None, "ada", now).await.unwrap();
    }
    host.app.store.feed().wake_here();
    for _ in 0..200 {
        host.advance(SignedDuration::from_secs(5)).await;
        let items = host.app.store.items().list(None, None, 1_000).await.unwrap();
        if items.len() == jobs.len() * usize::try_from(ITEMS).unwrap()
            && items.iter().all(|item| item.state == State::Resolved)
        {
            return;
        }
    }
    panic!("{:#?}", host.app.store.items().list(None, None, 1_000).await.unwrap());
}

async fn under_a_lock_nothing_is_lost(kind: Kind) {
    let databases = databases(kind).await;
    let clock = manual();
    let jobs = || vec![counter("one", "table"), counter("two", "table")];
    let mut host = Host::start("a", &databases, &clock, jobs()).await;
    // On SQLite there is only one host.
    let other = match kind {
        Kind::Postgres => Some(Host::start("b", &databases, &clock, jobs()).await),
        Kind::Sqlite => None,
    };
    // While a person holds the lock, no attempt counts.
    let store = host.app.store.clone();
    let until = start_of_time() + SignedDuration::from_secs(7);
    let taken = store.locks().take("counter", "ada", until, start_of_time()).await.unwrap();
    assert_eq!(taken, LockResult::Token(1));
    work_off(&mut host, &["one", "two"]).await;
    assert_eq!(databases.business_number("SELECT n FROM counter").await, 2 * ITEMS);
    // Each attempt gets the next token.
    let tokens = "SELECT note FROM item ORDER BY LENGTH(note), note";
    let expected: Vec<String> = (2..2 + 2 * ITEMS).map(|token| format!("token {token}")).collect();
    assert_eq!(databases.store_texts(tokens).await, expected);
    let waited = "SELECT COUNT(*) FROM attempt WHERE error_code = 'lock-held'";
    assert!(databases.store_number(waited).await >= 2 * ITEMS, "all met ada's lock");
    drop(other);
}

async fn a_key_that_is_swapped_loses_nothing(kind: Kind) {
    let databases = databases(kind).await;
    let mut host = Host::start("a", &databases, &manual(), vec![counter("one", "key")]).await;
    work_off(&mut host, &["one"]).await;
    let value = "SELECT value FROM kv WHERE kv_key = 'n'";
    let value = match kind {
        Kind::Sqlite => value.replace("value FROM", "CAST(value AS TEXT) FROM"),
        Kind::Postgres => value.replace("value FROM", "convert_from(value, 'UTF8') FROM"),
    };
    assert_eq!(databases.store_texts(&value).await, [ITEMS.to_string()]);
    let again = "SELECT COUNT(*) FROM attempt WHERE error_code IN ('kv-raced', 'changed')";
    assert!(databases.store_number(again).await > 0, "some came between");
}
