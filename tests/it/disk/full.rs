//! A full disk.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use test_support::needs;
use tokio::time::Instant;

use super::bench::{Bench, TABLE, pass, says, witness};
use super::client::Client;
use super::volume::Volume;
use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::process::Process;
use crate::support::site::Site;
use crate::support::wait::{LOADED, until};

/// Counted from the moment when space is free again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// The last time is longer than a lease: the attempts are stopped and their items released.
const FULL_FOR: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(2), Duration::from_secs(16)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_of_the_store_is_reported_and_loses_nothing() {
    needs!(Product);
    let volume = Volume::new(16 << 20);
    let mut bench = Bench::start(&volume.path("store.db"), &volume.wrapper()).await;
    let load = bench.client.start(4, 20);
    for full_for in FULL_FOR {
        bench.client.until_acknowledged().await;
        let (began, refused) = (Timestamp::now(), bench.client.count().1);
        let is_refused = async || {
            // The log may have been shortened meanwhile, which frees space.
            volume.fill(bench.pid);
            bench.client.count().1 > refused
        };
        until("a request is refused", is_refused).await;
        let not_ready = bench.until_readyz(503).await;
        says(&not_ready, &["the database is not available", "make room on the disk of the database"]);
        assert_eq!(http::get(bench.site.address, "/healthz").await.status, 200);
        pass(full_for).await;
        bench.check_log(began, Timestamp::now());

        let freed = Instant::now();
        volume.free(bench.pid);
        bench.client.until_acknowledged().await;
        bench.until_readyz(200).await;
        let took = freed.elapsed();
        eprintln!("full for {full_for:?}, back after {took:?}: {:?}", bench.client.count());
        assert!(took < BACK_WITHIN * LOADED, "it goes on by itself, not after {took:?}");
    }
    load.end().await;
    for refused in bench.client.refused.lock().unwrap().iter() {
        assert_eq!((refused.status, refused.code().as_str()), (503, "store-unavailable"));
        says(
            &refused.body,
            &["make room on the disk of the database: the host then continues automatically"],
        );
        says(&refused.head.to_ascii_lowercase(), &["retry-after: "]);
    }
    bench.settle().await;
    let copy = bench.copy(&volume.seen_from_outside(bench.pid).join("store.db"), "copy.db").await;
    bench.databases.store_url = format!("sqlite://{}", copy.display());
    bench.check().await;
    bench.end().await;
}

/// The business database has no space: its items wait, all others continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_of_a_datasource_fails_only_its_own_items() {
    needs!(Product);
    let volume = Volume::new(8 << 20);
    let databases = Databases::new(Kind::Sqlite).await;
    databases.business(TABLE).await;
    let business = format!("sqlite://{}", volume.path("business.db").display());
    let jobs = format!("{}[jobs.noop]\nplugin = \"noop\"\n", witness(&business));
    let site = Site::with_store(&databases.store_url, &jobs);
    site.install("noop", "noop");
    site.install("witness", "witness");
    let mut bench = Bench::serve(site, databases, &volume.wrapper(), "witness").await;
    let outside = volume.seen_from_outside(bench.pid).join("business.db");
    std::fs::copy(bench.databases.dir.path().join("business.db"), &outside).unwrap();
    let others = Client::new(bench.site.clone(), "noop");
    let load = [bench.client.start(2, 50), others.start(2, 50)];
    bench.until_resolved("witness", 20).await;

    let waits =
        "SELECT COUNT(*) FROM item WHERE job = 'witness' AND error_message LIKE '%make room on the disk%'";
    let no_room = async || {
        volume.fill(bench.pid);
        bench.databases.store_number(waits).await > 20
    };
    until("items say that the disk is full", no_room).await;
    bench.until_resolved("noop", 100).await;
    assert_eq!(http::get(bench.site.address, "/readyz").await.status, 200);
    for load in load {
        load.end().await;
    }
    let failed = "SELECT COUNT(*) FROM item WHERE state NOT IN ('resolved', 'scheduled')";
    assert_eq!(bench.databases.store_number(failed).await, 0, "none is given up");

    volume.free(bench.pid);
    let freed = Instant::now();
    bench.settle().await;
    eprintln!("all done {:?} after there was room: {:?}", freed.elapsed(), bench.client.count());
    assert_eq!((bench.client.count().1, others.count().1), (0, 0), "no request was refused");
    bench.databases.business_url = format!("sqlite://{}", bench.copy(&outside, "copy.db").await.display());
    let rows = bench.databases.business_texts("SELECT item_key FROM witness").await;
    let keys: BTreeSet<&String> = rows.iter().collect();
    assert_eq!(keys.len(), rows.len(), "no item was done twice");
    for key in bench.client.acknowledged.lock().unwrap().iter() {
        assert!(keys.contains(key), "{key} was acknowledged and has no row");
    }
    bench.end().await;
}

/// The files that the host keeps besides its store: those of its start, and the archive of the audit trail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_data_folder_is_reported() {
    needs!(Product);
    let (volume, databases) = (Volume::new(1 << 20), Databases::new(Kind::Sqlite).await);
    let archive = format!(
        "[audit]\nretention = \"1s\"\nevery = \"1s\"\narchive_dir = \"{}\"\n[jobs.noop]\nplugin = \"noop\"\n",
        volume.path("archive").display()
    );
    let site = Site::with_store(&databases.store_url, &archive);
    site.install("noop", "noop");
    let bench = Bench::serve(site, databases, &volume.wrapper(), "noop").await;
    let archived = "SELECT COUNT(*) FROM audit_archive";
    until("a part is archived", async || bench.databases.store_number(archived).await > 0).await;
    volume.fill(bench.pid);
    let full = "the audit trail could not be archived; it is tried again error=cannot write ";
    until("it is reported", async || {
        assert!(bench.site.ask(&["jobs", "trigger", "noop"]).await.status.success(), "all else goes on");
        bench.site.log().contains(full)
    })
    .await;
    says(&bench.site.log(), &["is its disk full?: No space left on device"]);
    let before = bench.databases.store_number(archived).await;
    volume.free(bench.pid);
    until("it goes on", async || bench.databases.store_number(archived).await > before).await;
    bench.end().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_is_refused() {
    needs!(Product);
    for (store, data, reported) in [
        ("store.db", "", &["make room on the disk of the database"][..]),
        ("", "data", &["cannot write", "host-id", "No space left on device", "is its disk full?"]),
    ] {
        let (volume, databases) = (Volume::new(64 << 10), Databases::new(Kind::Sqlite).await);
        let on = |name: &str, other: String| {
            if name.is_empty() { other } else { volume.path(name).display().to_string() }
        };
        let store = on(store, databases.dir.path().join("store.db").display().to_string());
        let site = Site::with_store(&format!("sqlite://{store}"), "");
        let config = site.write("full.toml", &on(data, "data".to_owned()));
        let mut wrapper = volume.wrapper();
        let fill = r#"head -c 1000000 /dev/zero > "$0/filler" 2> /dev/null; exec "$@""#;
        let dir = volume.path("").display().to_string();
        wrapper.extend(["sh", "-c", fill, &dir].map(str::to_owned));
        let mut host = Process::spawn_by(&wrapper, &config, site.address);
        let status = host.ready_or_ended().await.expect_err("it does not start");
        assert_eq!(status.code(), Some(1));
        says(&std::fs::read_to_string(config.with_extension("log")).unwrap(), reported);
    }
}
