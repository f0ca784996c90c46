//! Requests whose answers are lost because the host is killed: repeated with their keys, each runs once.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::json;
use test_support::on_both;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, text};
use crate::support::wait::until;
use crate::support::{http, plugins};

on_both!(requests_to_a_host_that_is_killed_are_carried_out_once, an_upload_with_a_key_is_carried_out_once,);

const JOB: &str = "[jobs.noop]\nplugin = \"noop\"\n";
const REQUESTS: usize = 40;
const KILLS: usize = 3;

fn headers(key: &str) -> [(&'static str, String); 2] {
    [("content-type", "application/json".to_owned()), ("idempotency-key", format!("\"{key}\""))]
}

fn body(key: &str) -> String {
    json!({ "key": key, "payload": "p" }).to_string()
}

/// Sends a request and does not read its answer.
async fn send(address: SocketAddr, key: &str) -> TcpStream {
    let body = body(key);
    let mut head = format!("POST /api/v1/jobs/noop/items HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers(key) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Kills the host when the effect of one request is in the store; no answer was read.
async fn requests_to_a_host_that_is_killed_are_carried_out_once(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, JOB);
    site.install("noop", "noop");
    let added = "SELECT COUNT(*) FROM audit WHERE action = 'item_added'";
    let mut replayed = BTreeSet::new();
    let mut host = site.serve().await;
    site.until_active("noop").await;
    for round in 0..KILLS {
        let before = databases.store_number(added).await;
        let keys: Vec<String> = (0..REQUESTS).map(|n| format!("item-{round}-{n}")).collect();
        let mut sockets = Vec::new();
        for key in &keys {
            sockets.push(send(site.address, key).await);
        }
        until("a request took effect", async || databases.store_number(added).await > before).await;
        host.kill9().await;
        drop(sockets);
        host = site.serve().await;
        // An added item may be resolved by now: added again, it would be done again.
        for key in &keys {
            let headers = headers(key);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = http::ask(site.address, "POST /api/v1/jobs/noop/items", &headers, &body(key)).await;
            assert_eq!((answer.status, &answer.json()["outcome"]), (201, &"added".into()), "{answer:?}");
            if answer.head.contains("idempotency-replayed: true") {
                replayed.insert(key.clone());
            }
        }
    }
    assert!(replayed.len() >= KILLS, "in each round one had taken effect: {replayed:?}");
    let all = i64::try_from(KILLS * REQUESTS).unwrap();
    assert_eq!(databases.store_number(added).await, all, "each once");
    site.until_items("resolved", u64::try_from(all).unwrap()).await;
    let series = "SELECT COUNT(*) FROM item WHERE series > 1";
    assert_eq!(databases.store_number(series).await, 0, "nothing was done again");
    host.terminate().await;
}

async fn an_upload_with_a_key_is_carried_out_once(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, "[jobs.versioned]\nplugin = \"versioned\"\n");
    let host = site.serve().await;
    let upload = async |file: &str, key: &str| {
        let file = plugins::file(file).to_str().unwrap().to_owned();
        let args = ["plugins", "upload", &file, "--name", "versioned", "--idempotency-key", key];
        site.ask(&[&args[..], &["--output", "json"]].concat()).await
    };
    let records = "SELECT COUNT(*) FROM audit WHERE action = 'plugin_uploaded'";
    let first = upload("versioned-a", "k").await;
    assert!(first.status.success(), "{}", text(&first.stderr));
    // The host is killed, and the repeated request gets the same answer instead of a duplicate error.
    host.kill9().await;
    let host = site.serve().await;
    let again = upload("versioned-a", "k").await;
    assert_eq!(text(&again.stdout), text(&first.stdout));
    assert!(text(&again.stdout).contains("\"outcome\": \"runs\""), "{}", text(&again.stdout));
    assert_eq!(databases.store_number(records).await, 1);
    let other = upload("versioned-b", "k").await;
    assert!(text(&other.stderr).contains("this idempotency key was used for another request"));
    // A refusal is not stored under the key.
    assert_eq!(upload("over-asking", "free").await.status.code(), Some(1));
    assert!(upload("versioned-b", "free").await.status.success());
    assert_eq!(databases.store_number(records).await, 2);
    host.terminate().await;
}
