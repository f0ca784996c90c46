//! The hosts of a store: their ids, and the removal of old ones.

use jiff::SignedDuration;
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job};
use crate::support::http;
use crate::support::jobs::host_of;
use crate::support::process::Process;
use crate::support::site::Site;

on_both! { r4_hosts_that_are_gone_are_forgotten }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_host_keeps_its_id_over_restarts() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = Site::with_store(&databases.store_url, "[jobs.hello]\nplugin = \"hello\"\n");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let host = site.serve().await;
        let hosts = http::get(site.address, "/api/v1/hosts").await.json();
        let this =
            hosts["hosts"].as_array().unwrap().iter().find(|host| host["this"] == true).unwrap().clone();
        seen.push(this["id"].as_str().unwrap().to_owned());
        host.kill9().await;
    }
    assert_eq!(seen[0], seen[1]);
    let kept = std::fs::read_to_string(site.path("data/host-id")).unwrap();
    assert_eq!(kept.trim(), seen[0], "a person can read it");
    let mut other = Process::spawn(&site.write("other.toml", "other"), site.address);
    other.ready().await;
    let hosts = http::get(site.address, "/api/v1/hosts").await.json();
    assert_eq!(hosts["hosts"].as_array().unwrap().len(), 2, "another data folder is another host: {hosts}");
    other.terminate().await;
}

async fn r4_hosts_that_are_gone_are_forgotten(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["hello"]).await;
    if kind == Kind::Postgres {
        let two = Host::start("two", &databases, &host.clock, vec![job("hello")]).await;
        two.app.stop().await;
    } else {
        let row = "INSERT INTO host (id, name, started_at_ms, heartbeat_at_ms)
            VALUES ('0190163d-8694-739b-aea5-966c26f8ad91', 'two', 1, 1772445600000)";
        databases.store(row).await;
    }
    assert_eq!(host.app.store.hosts().list(9).await.unwrap().len(), 2);
    host.advance(SignedDuration::from_hours(6 * 24)).await;
    assert_eq!(host.app.store.hosts().list(9).await.unwrap().len(), 2, "it may come back");
    let mut left = 2;
    for _ in 0..100 {
        host.advance(SignedDuration::from_hours(24)).await;
        left = host.app.store.hosts().list(9).await.unwrap().len();
        if left == 1 {
            break;
        }
    }
    assert_eq!(left, 1);
    let forgotten =
        databases.store_number("SELECT COUNT(*) FROM audit WHERE action = 'host_forgotten'").await;
    assert_eq!(forgotten, 1);
}
