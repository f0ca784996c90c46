//! A disk on which each sync takes half a second.

use std::time::Duration;
use test_support::needs;

use super::bench::{Bench, pass};
use super::strace::Strace;
use crate::support::database::{Databases, Kind};
use crate::support::site::Site;

/// Several lease durations.
const TIME: Duration = Duration::from_secs(45);
/// More than the disk can serve: with one commit each, the last client would wait for a minute.
const CLIENTS: usize = 48;
/// Attempts that last longer than a lease, beside many short ones.
const JOBS: &str = "[jobs.sleeper]\nplugin = \"sleeper\"\nconcurrency = 64\n[jobs.long]\nplugin = \"sleeper\"\n\
    config = { count = 8, ms = 25000 }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_costs_no_lease() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let strace = Strace::new();
    let site = Site::with_store(&databases.store_url, JOBS);
    site.install("sleeper", "sleeper");
    let slow = strace.wrapper("delay_enter=500000");
    let bench = Bench::serve(site, databases, &slow, "sleeper").await;
    let run = crate::support::http::post(bench.site.address, "/api/v1/jobs/long", "{}").await;
    assert_eq!(run.status, 201, "{run:?}");
    let load = bench.client.start(CLIENTS, 20);
    pass(TIME).await;
    load.end().await;
    let (acknowledged, refused) = bench.client.count();
    let ended = "SELECT COUNT(*) FROM attempt";
    let attempts = bench.databases.store_number(ended).await;
    eprintln!("{acknowledged} items acknowledged, {refused} refused, {attempts} attempts ended in {TIME:?}");
    assert!(acknowledged > 20 && attempts > 20, "it is slow, and it goes on");
    bench.settle().await;

    assert_eq!(bench.databases.store_number(&format!("{ended} WHERE verdict <> 'resolved'")).await, 0);
    let log = bench.site.log();
    for lost in ["leases could not be renewed", "leases are lost", "refused: the item has another holder"] {
        assert!(!log.contains(lost), "{lost:?} is in the log:\n{log}");
    }
    let missing = "SELECT COUNT(*) FROM item WHERE state <> 'resolved'";
    assert_eq!(bench.databases.store_number(missing).await, 0);
    let items = bench.databases.store_texts("SELECT item_key FROM item").await;
    for key in bench.client.acknowledged.lock().unwrap().iter() {
        assert!(items.contains(key), "{key} was acknowledged and is missing");
    }
    bench.end().await;
}
