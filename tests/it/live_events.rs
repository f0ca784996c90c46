//! Two hosts on one store: the changes of each reach the clients of both at once.

use std::time::Duration;

use serde_json::Value;
use test_support::needs;
use tokio::io::{BufReader, Lines};
use tokio::net::TcpStream;

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::site::Site;
use crate::support::wait::PATIENCE;

const JOB: &str = "[jobs.hello]\nplugin = \"hello\"\n";

type Stream = Lines<BufReader<TcpStream>>;

/// The next audit record with this action in the stream.
async fn record(stream: &mut Stream, action: &str) -> Value {
    loop {
        let line = stream.next_line().await.unwrap().expect("the stream goes on");
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let document: Value = serde_json::from_str(data).unwrap();
        if document["kind"] == "audited" && document["action"] == action {
            return document;
        }
    }
}

async fn post(site: &Site, path: &str) {
    assert_eq!(http::post(site.address, path, "{}").await.status, 200);
}

/// Pauses and resumes until the other host's stream has it: that host begins to listen a moment after it
/// starts.
async fn until_listening(site: &Site, remote: &mut Stream) {
    let heard = async {
        loop {
            post(site, "/api/v1/pause").await;
            post(site, "/api/v1/resume").await;
            let next = record(remote, "resumed");
            if tokio::time::timeout(Duration::from_secs(1), next).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the other host listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_on_one_host_are_streamed_by_the_other() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let (one, two) =
        (Site::with_store(&databases.store_url, JOB), Site::with_store(&databases.store_url, JOB));
    let (first, second) = (one.serve().await, two.serve().await);
    let mut remote = http::stream(two.address, "/api/v1/events").await;
    until_listening(&one, &mut remote).await;
    let mut local = http::stream(one.address, "/api/v1/events").await;
    for (path, action) in [("/api/v1/pause", "paused"), ("/api/v1/resume", "resumed")] {
        post(&one, path).await;
        let here = tokio::time::timeout(PATIENCE, record(&mut local, action)).await.unwrap();
        assert_eq!(here.get("remote"), None);
        let there = tokio::time::timeout(PATIENCE, record(&mut remote, action)).await.unwrap();
        assert_eq!(there["remote"], true);
        assert_eq!(there["actor"], here["actor"]);
    }
    first.terminate().await;
    second.terminate().await;
}
