//! The work of one item, as counts: what the host asks of its database, and what that writes. Unlike times, these
//! numbers do not depend on the machine.

use std::fs;

use serde_json::json;
use test_support::{Postgres, needs};

use crate::support::database::number;
use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, eventually};

/// Enough that the loops that run all the time (leases, recovery, polls) do not matter.
const ITEMS: u64 = 10_240;

/// Upper bounds of the work for one item.
struct Bounds {
    /// Statements, BEGINs, COMMITs and pings. On a busy machine batches are smaller; one statement for each item
    /// would add 1.
    round_trips: f64,
    /// On Postgres, bytes of its log (WAL); on SQLite, all bytes that the process writes.
    bytes_written: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_item_is_little_work_on_postgres() {
    needs!(Product, PostgresPrograms);
    // A server of its own: its log has only the host's writes.
    let server = Postgres::start().await;
    let wal = async || number(&server.url(), "SELECT CAST(pg_current_wal_lsn() - '0/0' AS BIGINT)").await;
    let bounds = Bounds { round_trips: 0.6, bytes_written: 1_500.0 };
    check(&Site::with_store(&server.url(), &jobs()), &bounds, async |_| wal().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_item_is_little_work_on_sqlite() {
    needs!(Product);
    let bounds = Bounds { round_trips: 0.6, bytes_written: 6_000.0 };
    check(&Site::new(&jobs()), &bounds, async |host: &Process| written_by(host.child.id().unwrap())).await;
}

fn jobs() -> String {
    format!(
        "[jobs.noop]\nplugin = \"noop\"\nconcurrency = 256\nconfig = {{ count = {ITEMS} }}\n\
         limits = {{ items_open = 100000, pages_per_run = 1000 }}\n"
    )
}

/// Finds the items while the job's rate holds them back, then measures until all are resolved.
async fn check(site: &Site, bounds: &Bounds, bytes: impl AsyncFn(&Process) -> i64) {
    site.install("noop", "noop");
    let host = site.serve().await;
    site.until_active("noop").await;
    hold_back(site).await;
    let (trips_before, bytes_before) = (round_trips(site).await, bytes(&host).await);
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop/resume", "{}").await.status, 200);
    site.until_items("resolved", ITEMS).await;
    let trips = (round_trips(site).await - trips_before) / ITEMS as f64;
    let bytes = (bytes(&host).await - bytes_before) as f64 / ITEMS as f64;
    println!("for each item: {trips:.3} round trips, {bytes:.0} bytes written");
    assert!(
        trips <= bounds.round_trips,
        "{trips:.3} round trips for each item; {} are allowed",
        bounds.round_trips
    );
    assert!(
        bytes <= bounds.bytes_written,
        "{bytes:.0} bytes for each item; {} are allowed",
        bounds.bytes_written
    );
    host.terminate().await;
}

/// Lets the job find its items and leaves it paused. A paused job starts no discovery, so first its rate holds the
/// items back.
async fn hold_back(site: &Site) {
    let edit = json!({ "set": { "rate": "1/1h", "concurrency": 1 } }).to_string();
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop/edits", &edit).await.status, 200);
    until_concurrency(site, 1).await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop", "{}").await.status, 201);
    let found = || async {
        let runs = http::get(site.address, "/api/v1/runs?job=noop&limit=1").await.json();
        runs["runs"][0]["discovered_at"].is_string().then_some(())
    };
    eventually("the end of the discovery", found).await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop/pause", "{}").await.status, 200);
    let clear = json!({ "clear": ["*"] }).to_string();
    assert_eq!(http::post(site.address, "/api/v1/jobs/noop/edits", &clear).await.status, 200);
    until_concurrency(site, 256).await;
}

async fn until_concurrency(site: &Site, wanted: u64) {
    let look = || async {
        let jobs = http::get(site.address, "/api/v1/jobs").await.json();
        (jobs["jobs"][0]["concurrency"] == wanted).then_some(())
    };
    eventually("the setting", look).await;
}

async fn round_trips(site: &Site) -> f64 {
    let metrics = http::get(site.address, "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("tidemill_database_round_trips_total "));
    line.expect("the metric is shown").parse().unwrap()
}

/// Bytes that the process passed to the kernel to write.
fn written_by(process: u32) -> i64 {
    let counts = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    counts.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}
