//! Two hosts on one store: the changes of each reach the clients of both at once.

use serde_json::Value;
use test_support::needs;
use tokio::io::{BufReader, Lines};
use tokio::net::TcpStream;

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::site::Site;
use crate::support::wait::PATIENCE;

const JOB: &str = "[jobs.hello]\nplugin = \"hello\"\n";

/// Reads the stream until a document has this kind and action.
async fn until(lines: &mut Lines<BufReader<TcpStream>>, kind: &str, action: &str) -> Value {
    let read = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let document: Value = serde_json::from_str(data).unwrap();
            if document["kind"] == kind && (action.is_empty() || document["action"] == action) {
                return document;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no event {kind} {action}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_on_one_host_are_streamed_by_the_other() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let (one, two) =
        (Site::with_store(&databases.store_url, JOB), Site::with_store(&databases.store_url, JOB));
    let (first, second) = (one.serve().await, two.serve().await);
    let mut local = http::stream(one.address, "/api/v1/events").await;
    let mut remote = http::stream(two.address, "/api/v1/events").await;
    for action in ["pause", "resume"] {
        let path = format!("/api/v1/{action}");
        assert_eq!(http::post(one.address, &path, "{}").await.status, 200);
        let record = format!("{action}d");
        let here = until(&mut local, "audited", &record).await;
        assert_eq!(here.get("remote"), None);
        let there = until(&mut remote, "audited", &record).await;
        assert_eq!(there["remote"], true);
        assert_eq!(there["actor"], here["actor"]);
    }
    first.terminate().await;
    second.terminate().await;
}
