//! Streams of items: more time than a whole body may take, clients that stall or are cut off, and the command.

use std::net::SocketAddr;

use serde_json::json;
use test_support::{needs, on_both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, text};
use crate::support::wait::until;

on_both!(stream_may_take_longer_than_a_body_and_its_items_are_resolved, cut_off_stream_keeps_whole_portions);

const PORTION: usize = 5_000;
const STORED: &str = "SELECT COUNT(*) FROM item";

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{}\n", json!({ "key": format!("item-{n:06}"), "payload": "{}" }))).collect()
}

/// A site whose bodies may take no time.
async fn site(store: &str) -> (Site, Process) {
    let limits = "[server.limits]\nbody_time = \"100ms\"\nstall_time = \"20s\"\n";
    let site = Site::with_store(store, &format!("{limits}[jobs.noop]\nplugin = \"noop\"\n"));
    let host = site.serve().await;
    (site, host)
}

async fn begin(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/jobs/noop/items HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

async fn send(socket: &mut TcpStream, text: &str) {
    socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
}

async fn answer(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn stream_may_take_longer_than_a_body_and_its_items_are_resolved(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (site, host) = site(&databases.store_url).await;
    let mut socket = begin(site.address).await;
    send(&mut socket, &lines(0..PORTION)).await;
    // The portion is written while the rest is not sent.
    until("the first portion", async || databases.store_number(STORED).await == 5_000).await;
    // tidy: sleep because the limit on the time of a body must pass
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let rest = lines(PORTION..PORTION + 10);
    let (half, other) = rest.split_at(rest.len() / 2);
    send(&mut socket, half).await;
    send(&mut socket, other).await;
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = answer(socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(r#"{"added":5010,"reopened":0,"kept":0,"waits":"#), "{answer}");
    site.install("noop", "noop");
    site.until_items("resolved", 5_010).await;
    host.terminate().await;
}

async fn cut_off_stream_keeps_whole_portions(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (site, host) = site(&databases.store_url).await;
    let mut socket = begin(site.address).await;
    send(&mut socket, &lines(0..PORTION + 100)).await;
    until("the first portion", async || databases.store_number(STORED).await == 5_000).await;
    drop(socket);
    let file = site.path("items.jsonl");
    std::fs::write(&file, lines(0..PORTION + 200)).unwrap();
    let output = site.ask(&["items", "add", "noop", "--file", "items.jsonl"]).await;
    let said = text(&output.stdout);
    assert!(
        said.starts_with("200 added, 0 reopened, 5000 kept\nit waits: "),
        "{said}{}",
        text(&output.stderr)
    );
    std::fs::write(&file, lines(0..2) + "oops\n").unwrap();
    let output = site.ask(&["items", "add", "noop", "--file", "items.jsonl"]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("line 3: expected value at column 1"), "{said}");
    let records = "SELECT COUNT(*) FROM audit WHERE action = 'items_added'";
    assert_eq!((databases.store_number(STORED).await, databases.store_number(records).await), (5_200, 2));
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_stream_is_cut_off() {
    needs!(Product);
    let site = Site::new("[server.limits]\nstall_time = \"300ms\"\n[jobs.noop]\nplugin = \"noop\"\n");
    let host = site.serve().await;
    let mut socket = begin(site.address).await;
    send(&mut socket, &lines(0..3)).await;
    let answer = answer(socket).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("(server.limits.stall_time)"), "{answer}");
    assert!(answer.contains("no item was added"), "{answer}");
    assert_eq!(http::get(site.address, "/api/v1/items/noop/item-000000").await.status, 404);
    host.terminate().await;
}
