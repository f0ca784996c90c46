//! The store becomes unavailable while a real host works: nothing is lost or done twice, and work resumes.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use test_support::{needs, postgres_url};

use super::says;
use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::proxy::{Proxy, Traffic};
use crate::support::site::{Site, eventually, items};
use crate::support::wait::LOADED;

const COUNT: u64 = 2_000;
const RESOLVED: &str = "SELECT COUNT(*) FROM item WHERE state = 'resolved'";
/// Promised for an outage (docs/runbook.md): the time until it is reported, and the time until work resumes
/// afterwards.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);
const RESUMED_WITHIN: Duration = Duration::from_secs(10);

/// A site whose host writes a row, an event and a key for each of many items.
async fn site(databases: &Databases) -> Site {
    site_on(databases, &databases.store_url).await
}

async fn site_on(databases: &Databases, store_url: &str) -> Site {
    databases
        .business("CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)")
        .await;
    let site = Site::with_store(
        store_url,
        &format!(
            "[datasources.witness]\nurl = \"{}\"\n[jobs.witness]\nplugin = \"witness\"\nconcurrency = 16\n\
             config = {{ count = {COUNT} }}\n[jobs.witness.grants]\nsql = {{ witness = \"read-write\" }}\n\
             events = [\"witness\"]\nkeyvalue = true\n[jobs.witness.retry]\nbase = \"200ms\"\ncap = \"1s\"\n",
            databases.business_url
        ),
    );
    site.install("witness", "witness");
    site
}

async fn start(site: &Site) -> crate::support::process::Process {
    let host = site.serve().await;
    site.until_active("witness").await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/witness", "{}").await.status, 201);
    host
}

/// Checks that every item was resolved by one attempt, and that each of its traces exists once.
async fn check(databases: &Databases) {
    let count = i64::try_from(COUNT).unwrap();
    let store = [
        "SELECT COUNT(*) FROM item WHERE state = 'resolved'",
        "SELECT COUNT(*) FROM attempt WHERE verdict = 'resolved'",
        "SELECT COUNT(*) FROM event",
        "SELECT COUNT(DISTINCT event_key) FROM event",
        "SELECT COUNT(*) FROM kv",
    ];
    for sql in store {
        assert_eq!(databases.store_number(sql).await, count, "{sql}");
    }
    for sql in ["SELECT COUNT(*) FROM witness", "SELECT COUNT(DISTINCT item_key) FROM witness"] {
        assert_eq!(databases.business_number(sql).await, count, "{sql}");
    }
    assert_eq!(databases.store_number("SELECT COUNT(*) FROM run WHERE state <> 'finished'").await, 0);
}

async fn resolved(site: &Site) -> Option<u64> {
    let answer = http::get(site.address, "/api/v1/jobs").await;
    (answer.status == 200).then(|| items(&answer.json(), "resolved"))
}

async fn until_resolved(site: &Site, at_least: u64) -> u64 {
    let look = || async { resolved(site).await.filter(|count| *count >= at_least) };
    eventually(&format!("{at_least} resolved items"), look).await
}

async fn admin(sql: String) {
    let mut db = PgConnection::connect(&postgres_url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

fn name(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

fn terminate(database: &str) -> String {
    format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
}

#[tokio::test]
async fn connections_of_postgres_that_are_cut_cost_nothing() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = site(&databases).await;
    let host = start(&site).await;
    let mut seen = 0;
    for cut in 0..5 {
        let url = [&databases.store_url, &databases.business_url][usize::from(cut % 2 == 1)];
        seen = until_resolved(&site, seen + 100).await;
        assert!(seen < COUNT, "it is cut under load");
        admin(terminate(name(url))).await;
    }
    until_resolved(&site, COUNT).await;
    check(&databases).await;
    assert_eq!(http::get(site.address, "/readyz").await.status, 200);
    host.terminate().await;
}

#[tokio::test]
async fn postgres_without_connections_is_reported_and_waited_for() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = site(&databases).await;
    let host = start(&site).await;
    let seen = until_resolved(&site, 100).await;
    assert!(seen < COUNT);
    let store = name(&databases.store_url);
    let allow = |allowed: bool| format!("ALTER DATABASE {store} WITH ALLOW_CONNECTIONS {allowed}");
    let gone_at = Instant::now();
    admin(allow(false)).await;
    admin(terminate(store)).await;

    let not_ready = || async {
        let answer = http::get(site.address, "/readyz").await;
        (answer.status == 503).then(|| answer.json())
    };
    let health = eventually("the host is not ready", not_ready).await;
    assert!(gone_at.elapsed() < REPORTED_WITHIN * LOADED, "reported after {:?}", gone_at.elapsed());
    assert_eq!(health["status"], "not-ready");
    says(
        health["reason"].as_str().unwrap(),
        &["the database is not available: ", "not currently accepting connections"],
    );
    assert_eq!(http::get(site.address, "/healthz").await.status, 200, "it lives");
    let refused = http::get(site.address, "/api/v1/jobs").await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "store-unavailable"));
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    let jobs = site.ask(&["jobs"]).await;
    assert_eq!(jobs.status.code(), Some(1));

    let back_at = Instant::now();
    admin(allow(true)).await;
    let seen = databases.store_number(RESOLVED).await;
    let ready = || async { (http::get(site.address, "/readyz").await.status == 200).then_some(()) };
    eventually("the host is ready again", ready).await;
    let more = || async { (databases.store_number(RESOLVED).await > seen).then_some(()) };
    eventually("more is resolved", more).await;
    assert!(back_at.elapsed() < RESUMED_WITHIN * LOADED, "it went on after {:?}", back_at.elapsed());
    until_resolved(&site, COUNT).await;
    check(&databases).await;
    host.terminate().await;
}

/// The line neither refuses nor answers, so only the host's own timeout detects it.
#[tokio::test]
async fn frozen_connection_to_postgres_is_reported_and_survived() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let (server, database) = databases.store_url.rsplit_once('/').unwrap();
    let proxy = Proxy::to(server.rsplit_once('@').unwrap().1.to_owned()).await;
    let through = format!("postgres://postgres@{}/{database}", proxy.address);
    let site = site_on(&databases, &through).await;
    let host = start(&site).await;
    let seen = until_resolved(&site, 100).await;
    assert!(seen < COUNT);

    proxy.set(Traffic::Frozen);
    let frozen_at = Instant::now();
    let not_ready = || async { (http::get(site.address, "/readyz").await.status == 503).then_some(()) };
    eventually("the host is not ready", not_ready).await;
    assert!(frozen_at.elapsed() < REPORTED_WITHIN * LOADED, "reported after {:?}", frozen_at.elapsed());
    assert_eq!(http::get(site.address, "/healthz").await.status, 200, "it lives");

    let thawed_at = Instant::now();
    let seen = databases.store_number(RESOLVED).await;
    proxy.set(Traffic::Passes);
    let more = || async { (databases.store_number(RESOLVED).await > seen).then_some(()) };
    eventually("more is resolved", more).await;
    assert!(thawed_at.elapsed() < RESUMED_WITHIN * LOADED, "it went on after {:?}", thawed_at.elapsed());
    until_resolved(&site, COUNT).await;
    check(&databases).await;
    host.terminate().await;
}

/// How long another process locks the file: less than the host's lock timeout, and more.
const LOCKED: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(7)];

#[tokio::test]
async fn an_sqlite_file_that_another_process_locks_is_waited_for() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let site = site(&databases).await;
    let host = start(&site).await;
    let mut seen = 0;
    for locked in LOCKED {
        seen = until_resolved(&site, seen + 100).await;
        assert!(seen < COUNT, "it is locked under load");
        let mut other = SqliteConnection::connect(&databases.store_url).await.unwrap();
        sqlx::raw_sql("PRAGMA busy_timeout = 30000; BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        // tidy: sleep because the lock has to last longer than one try
        tokio::time::sleep(locked).await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
    }
    until_resolved(&site, COUNT).await;
    check(&databases).await;
    assert_eq!(http::get(site.address, "/readyz").await.status, 200);
    host.terminate().await;
}
