//! A host that reaches Postgres through PgBouncer.

use test_support::{PgBouncer, needs};

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, eventually};

const JOB: &str = "[jobs.hello]\nplugin = \"hello\"\nschedule = { every = \"1s\" }\n";
/// A common setup of poolers: settings that a client sends at connection start are dropped.
const DROPS_OPTIONS: &str = "ignore_startup_parameters = extra_float_digits,options";
const RUNS: i64 = 4;

/// One host behind a session pooler and one without a pooler work on the same tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_behind_a_pooler_shares_its_store() {
    needs!(Product, PgBouncer);
    let databases = Databases::new(Kind::Postgres).await;
    let bouncer = PgBouncer::start(&databases.store_url, &["pool_mode = session", DROPS_OPTIONS]).await;
    let behind = Site::with_store(&bouncer.url(&databases.store_url), JOB);
    let beside = Site::with_store(&databases.store_url, JOB);
    let mut hosts = Vec::new();
    for site in [&behind, &beside] {
        site.install("hello", "hello");
        hosts.push(site.serve().await);
        site.until_active("hello").await;
    }
    let runs = || async {
        let done = databases.store_number("SELECT COUNT(*) FROM run WHERE state = 'finished'").await;
        (done >= RUNS).then_some(())
    };
    eventually("runs that ended", runs).await;
    assert_eq!(databases.store_number("SELECT COUNT(*) FROM host").await, 2);
    let twice =
        "SELECT COUNT(*) FROM (SELECT 1 FROM run GROUP BY scheduled_at_ms HAVING COUNT(*) > 1) AS again";
    assert_eq!(databases.store_number(twice).await, 0, "each instant ran once");
    let strays = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(databases.store_number(strays).await, 0, "all tables are in the schema of the host");
    for host in hosts {
        host.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_of_transactions_is_refused_by_name() {
    needs!(Product, PgBouncer);
    let databases = Databases::new(Kind::Postgres).await;
    let bouncer = PgBouncer::start(&databases.store_url, &["pool_mode = transaction", DROPS_OPTIONS]).await;
    let site = Site::with_store(&bouncer.url(&databases.store_url), JOB);
    let (code, said) = site.refusal(&site.path("tidemill.toml")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("pool_mode = session"), "{said}");
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'item'";
    assert_eq!(databases.store_number(tables).await, 0, "nothing was set up");
}
