//! How new versions are released: on trial first, after approval, and on all hosts, with real processes.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::process::{Process, free_port};
use crate::support::site::{Site, eventually, text};

on_both!(
    a_version_that_fails_is_rolled_back_and_loses_nothing,
    successful_version_is_promoted,
    version_with_more_requests_waits_for_approval,
    a_start_with_a_broken_file_runs_the_version_before,
);

const CANARY: &str = "[plugins]\ncanary = { share = 0.5, promote_attempts = 30, promote_after = \"1h\" }\n";
const JOB: &str = "[jobs.versioned]\nplugin = \"versioned\"\nretry = { max_attempts = \"unbounded\", base = \"100ms\", cap = \"100ms\" }\n";

async fn add_items(address: SocketAddr, keys: std::ops::Range<u32>) {
    for n in keys {
        let body = json!({ "key": format!("item-{n}"), "payload": "" });
        let answer = http::post(address, "/api/v1/jobs/versioned/items", &body.to_string()).await;
        assert!(answer.status < 300, "{answer:?}");
    }
}

async fn plugin(address: SocketAddr) -> Value {
    http::get(address, "/api/v1/plugins/versioned").await.json()
}

/// Waits until a version of the plugin is in this state, and returns it.
async fn until(address: SocketAddr, state: &str, version: &str) -> Value {
    let look = || async {
        let plugin = plugin(address).await;
        let is_it = |one: &&Value| one["state"] == state && one["version"] == version;
        plugin["versions"].as_array().into_iter().flatten().find(is_it).cloned()
    };
    eventually(&format!("{version} is {state}"), look).await
}

/// Waits until the version with this name is active on this host.
async fn until_runs(address: SocketAddr, version: &str) {
    let look = || async {
        let plugins = http::get(address, "/api/v1/plugins").await.json();
        let is_it = |one: &Value| one["state"] == "active" && one["version"] == version;
        plugins["plugins"].as_array().unwrap().iter().any(is_it).then_some(())
    };
    eventually(&format!("{version} runs"), look).await;
}

async fn a_version_that_fails_is_rolled_back_and_loses_nothing(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, &format!("{CANARY}{JOB}"));
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until(site.address, "active", "a").await;
    site.install("panics", "versioned");
    let bad = until(site.address, "canary", "0.1.0").await;
    // A version on trial stays on trial when its host dies.
    host.kill9().await;
    let host = site.serve().await;
    until(site.address, "canary", "0.1.0").await;
    add_items(site.address, 0..40).await;
    let rejected = until(site.address, "rejected", "0.1.0").await;
    let reason = rejected["reason"].as_str().unwrap();
    assert!(reason.contains("in quarantine") && reason.contains("it fails more often"), "{reason}");
    site.until_items("resolved", 40).await;

    // Some items failed on the new version and ended on the old one; the others only used the old one.
    let digest = bad["digest"].as_str().unwrap();
    let bytes = databases.bytes(digest);
    let failed = format!("SELECT COUNT(DISTINCT item_id) FROM attempt WHERE digest = {bytes}");
    let failed = databases.store_number(&failed).await;
    assert!((1..40).contains(&failed), "{failed} of 40 items went to the version on trial");
    let odd = format!("SELECT COUNT(*) FROM attempt WHERE digest = {bytes} AND verdict = 'resolved'");
    assert_eq!(databases.store_number(&odd).await, 0);
    let alert = "SELECT message FROM alert WHERE kind = 'plugin-rolled-back' AND job = 'versioned'";
    assert_eq!(databases.store_texts(alert).await.len(), 1);
    assert_eq!(
        databases.store_number("SELECT COUNT(*) FROM audit WHERE action = 'plugin_rolled_back'").await,
        1
    );

    // A rejected version does not return automatically, even after a restart. Approved, it is on trial again.
    host.terminate().await;
    let host = site.serve().await;
    until(site.address, "rejected", "0.1.0").await;
    until_runs(site.address, "a").await;
    let approved = site.ask(&["plugins", "approve", "versioned", &digest[..12]]).await;
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    until(site.address, "canary", "0.1.0").await;
    host.terminate().await;
}

async fn successful_version_is_promoted(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, &format!("{CANARY}{JOB}"));
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until(site.address, "active", "a").await;
    site.install("versioned-b", "versioned");
    until(site.address, "canary", "b").await;
    add_items(site.address, 0..20).await;
    site.until_items("resolved", 20).await;
    let shown = text(&site.ask(&["plugins", "show", "versioned"]).await.stdout);
    assert!(shown.contains("is on trial since"), "{shown}");
    // Attempt counts appear within a second or two. The items added afterwards are enough for a promotion.
    let told = || async {
        plugin(site.address).await["release"]["candidate"]["tried"]["attempts"].as_u64().filter(|n| *n > 0)
    };
    let tried = eventually("attempts are counted", told).await;
    let on_b = "SELECT COUNT(*) FROM attempt WHERE note = 'b'";
    assert!(tried < 20 && databases.store_number(on_b).await < 20);
    add_items(site.address, 20..120).await;
    until(site.address, "active", "b").await;
    until(site.address, "retired", "a").await;
    site.until_items("resolved", 120).await;
    assert_eq!(
        databases.store_number("SELECT COUNT(*) FROM attempt").await,
        120,
        "each item was attempted once"
    );
    let trail = "SELECT action FROM audit WHERE action IN ('plugin_canary_began', 'plugin_promoted') ORDER BY at_ms, id";
    assert_eq!(databases.store_texts(trail).await, ["plugin_canary_began", "plugin_promoted"]);
    host.terminate().await;
}

async fn version_with_more_requests_waits_for_approval(kind: Kind) {
    let databases = Databases::new(kind).await;
    databases
        .business("CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)")
        .await;
    let granted = format!(
        "[plugins]\napproval = \"wider\"\n[datasources.witness]\nurl = \"{}\"\n{JOB}\
        [jobs.versioned.grants]\nsql = {{ witness = \"read-write\" }}\nevents = [\"witness\"]\nkeyvalue = true\n",
        databases.business_url
    );
    let site = Site::with_store(&databases.store_url, &granted);
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until(site.address, "active", "a").await;
    site.install("witness", "versioned");
    let waits = until(site.address, "waiting", "0.1.0").await;
    assert!(waits["reason"].as_str().unwrap().contains("topic \"witness\""), "{waits}");
    add_items(site.address, 0..3).await;
    site.until_items("resolved", 3).await;
    assert_eq!(databases.business_number("SELECT COUNT(*) FROM witness").await, 0);

    let shown = text(&site.ask(&["plugins", "show", "versioned"]).await.stdout);
    assert!(shown.contains("waits for approval") && shown.contains("+ import tidemill:job/sql@"), "{shown}");
    assert!(shown.contains("writes to \"witness\": INSERT INTO witness"), "{shown}");
    let page = http::get(site.address, "/").await.body;
    assert!(page.contains("waiting: import "), "{page}");
    let digest = waits["digest"].as_str().unwrap();
    // The request that the page's button sends.
    let button = format!(
        r#"data-post="/api/v1/plugins/versioned/approve" data-body="{{&quot;digest&quot;: &quot;{digest}&quot;}}""#
    );
    assert!(page.contains(&button), "{page}");
    let body = format!(r#"{{"digest": "{digest}"}}"#);
    let approved = http::post(site.address, "/api/v1/plugins/versioned/approve", &body).await;
    assert_eq!(approved.status, 200, "{}", approved.body);
    until(site.address, "active", "0.1.0").await;
    add_items(site.address, 3..6).await;
    site.until_items("resolved", 6).await;
    assert_eq!(databases.business_number("SELECT COUNT(*) FROM witness").await, 3);
    host.terminate().await;
}

async fn a_start_with_a_broken_file_runs_the_version_before(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, JOB);
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until(site.address, "active", "a").await;
    host.kill9().await;
    let file = site.path("plugins/versioned.wasm");
    std::fs::write(&file, "rubbish").unwrap();
    let host = site.serve().await;
    until_runs(site.address, "a").await;
    site.until_said(&["plugins"], "it is not a WebAssembly component").await;
    host.kill9().await;
    // A file that cannot even be read stops nothing either.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let host = site.serve().await;
    until_runs(site.address, "a").await;
    site.until_said(&["plugins"], "skipped versioned.wasm: it is not a regular file").await;
    add_items(site.address, 0..3).await;
    site.until_items("resolved", 3).await;
    std::fs::remove_dir(&file).unwrap();
    site.install("versioned-b", "versioned");
    until_runs(site.address, "b").await;
    host.terminate().await;
}

/// Another host on the same store, with its own folder.
async fn host_beside(site: &Site, name: &str, databases: &Databases) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "server.listen = \"{address}\"\nhost.data_dir = \"{name}-data\"\nplugins.dir = \"{name}\"\nstore.url = \"{}\"\n{JOB}",
        databases.store_url
    );
    let file = site.path(&format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    let mut process = Process::spawn(&file, address);
    process.ready().await;
    (process, address)
}

#[tokio::test]
async fn version_found_by_one_host_runs_on_all() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = Site::with_store(&databases.store_url, JOB);
    let own = site.path("own");
    for folder in [&own, &site.path("empty")] {
        std::fs::create_dir(folder).unwrap();
    }
    crate::support::plugins::install(&own, "versioned-a", "versioned");
    site.install("versioned-a", "versioned");
    let first = site.serve().await;
    until_runs(site.address, "a").await;
    let (behind, behind_at) = host_beside(&site, "own", &databases).await;
    let (empty, empty_at) = host_beside(&site, "empty", &databases).await;
    until_runs(behind_at, "a").await;
    until_runs(empty_at, "a").await;

    site.install("versioned-b", "versioned");
    for address in [site.address, behind_at, empty_at] {
        until_runs(address, "b").await;
    }
    // A host that starts with an outdated file follows the others, and does not roll them back.
    behind.kill9().await;
    let (behind, behind_at) = host_beside(&site, "own", &databases).await;
    until_runs(behind_at, "b").await;
    until_runs(site.address, "b").await;
    // Installed while the host runs, the same file is a deliberate change.
    crate::support::plugins::install(&own, "noop", "versioned");
    until_runs(site.address, "0.1.0").await;
    crate::support::plugins::install(&own, "versioned-a", "versioned");
    for address in [site.address, behind_at, empty_at] {
        until_runs(address, "a").await;
    }

    assert!(site.ask(&["plugins", "retire", "versioned"]).await.status.success());
    for address in [site.address, behind_at, empty_at] {
        let gone = || async {
            let jobs = http::get(address, "/api/v1/jobs").await.json();
            jobs["jobs"][0]["digest"].is_null().then_some(())
        };
        eventually("nothing runs any more", gone).await;
    }
    for host in [first, behind, empty] {
        host.terminate().await;
    }
}
