//! Versions are shown, pinned and rolled back on all hosts, with the command line of a real process.

use serde_json::Value;
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::process::{Process, free_port};
use crate::support::site::{Site, eventually, text};

on_both!(a_version_is_rolled_back_and_stays_until_it_is_unpinned);

const JOB: &str = "[jobs.versioned]\nplugin = \"versioned\"\n";

/// Waits until the version with this name is active on this host.
async fn until_runs(address: std::net::SocketAddr, version: &str) {
    let runs = |one: &Value| one["state"] == "active" && one["version"] == version;
    let look = || async {
        let plugins = http::get(address, "/api/v1/plugins").await.json();
        plugins["plugins"].as_array().unwrap().iter().any(runs).then_some(())
    };
    eventually(version, look).await;
}

async fn a_version_is_rolled_back_and_stays_until_it_is_unpinned(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, JOB);
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until_runs(site.address, "a").await;
    let refused = site.ask(&["plugins", "rollback", "versioned"]).await;
    let nothing = "tidemill: plugin versioned has no version that ran before and is kept\n";
    assert_eq!(text(&refused.stderr), nothing);
    site.install("versioned-b", "versioned");
    until_runs(site.address, "b").await;

    let back = text(&site.ask(&["plugins", "rollback", "versioned"]).await.stdout);
    assert!(back.contains("pinned to "), "{back}");
    until_runs(site.address, "a").await;
    // The store is updated a moment later.
    let shown = eventually("a is active, b is retired", || async {
        let shown = text(&site.ask(&["plugins", "show", "versioned", "--output", "json"]).await.stdout);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let versions = shown["versions"].as_array().unwrap();
        let is = |version: &str, state: &str| {
            versions.iter().any(|one| one["version"] == version && one["state"] == state)
        };
        (is("a", "active") && is("b", "retired")).then(|| shown.clone())
    })
    .await;
    let pinned = shown["pin"]["digest"].as_str().unwrap().to_owned();
    let inspected = text(&site.ask(&["plugins", "inspect", "versioned", &pinned[..8]]).await.stdout);
    assert!(inspected.contains("\"imports\"") && inspected.contains(&pinned), "{inspected}");

    // A host without the file runs the pinned version, even after a restart. On SQLite there is one host.
    let other = match kind {
        Kind::Postgres => Some(empty_host(&site, &databases).await),
        Kind::Sqlite => None,
    };
    host.terminate().await;
    let host = site.serve().await;
    until_runs(site.address, "a").await;

    let unknown = site.ask(&["plugins", "pin", "versioned", "123456789"]).await;
    assert!(text(&unknown.stderr).contains("has no version \"123456789\""), "{}", text(&unknown.stderr));
    let unpinned = site.ask(&["plugins", "unpin", "versioned"]).await;
    assert!(unpinned.status.success());
    until_runs(site.address, "b").await;
    if let Some((other, address)) = other {
        // Its folder is empty, so it follows the version of the other hosts.
        until_runs(address, "b").await;
        other.terminate().await;
    }
    host.terminate().await;
    let trail =
        "SELECT action FROM audit WHERE action IN ('plugin_pinned', 'plugin_unpinned') ORDER BY at_ms, id";
    assert_eq!(databases.store_texts(trail).await, ["plugin_pinned", "plugin_unpinned"]);
}

/// A second host on the same store, with an empty plugins folder.
async fn empty_host(site: &Site, databases: &Databases) -> (Process, std::net::SocketAddr) {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "server.listen = \"{address}\"\nhost.data_dir = \"other\"\nplugins.dir = \"empty\"\nstore.url = \"{}\"\n{JOB}",
        databases.store_url
    );
    std::fs::create_dir(site.path("empty")).unwrap();
    std::fs::write(site.path("other.toml"), text).unwrap();
    let mut other = Process::spawn(&site.path("other.toml"), address);
    other.ready().await;
    until_runs(address, "a").await;
    (other, address)
}
