//! Invalid requests: each returns a problem document with a stable code and changes nothing.

use domain::item::State;
use std::collections::BTreeMap;
use test_support::needs;

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::{http, plugins};

async fn host() -> (Databases, Host) {
    let databases = Databases::new(Kind::Sqlite).await;
    let folder = databases.dir.path().join("plugins");
    plugins::install(&folder, "noop", "noop");
    plugins::install(&folder, "sleeper", "sleeper");
    let mut sleeper = job("sleeper");
    sleeper.config = BTreeMap::from([("ms".to_owned(), "20000".to_owned())]);
    let mut host = Host::start("one", &databases, &manual(), vec![job("noop"), sleeper]).await;
    host.app.engine.trigger(&"noop".parse().unwrap(), None, "test").await.unwrap();
    host.settle().await;
    (databases, host)
}

const JSON: (&str, &str) = ("content-type", "application/json");
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str, u16, &'static str);

const CASES: [Case; 27] = [
    ("GET /api/v1/nothing", &[], "", 404, "not-found"),
    ("GET /api/v1/items/noop/none", &[], "", 404, "not-found"),
    ("GET /api/v1/items/none/n-1", &[], "", 404, "not-found"),
    ("GET /api/v1/items/noop/%FF", &[], "", 400, "bad-path"),
    ("GET /api/v1/runs/none", &[], "", 404, "not-found"),
    ("GET /api/v1/runs/01923456-7890-7abc-8def-0123456789ab", &[], "", 404, "not-found"),
    ("POST /api/v1/jobs/none", &[JSON], "{}", 404, "not-found"),
    ("POST /api/v1/jobs/NO%20NE", &[JSON], "{}", 404, "not-found"),
    ("POST /api/v1/items/noop/none/retry", &[JSON], "{}", 404, "not-found"),
    ("POST /api/v1/items/noop/n-1/explode", &[JSON], "{}", 404, "not-found"),
    ("GET /api/v1/runs?limit=-1", &[], "", 400, "bad-query"),
    ("GET /api/v1/runs?limit=many", &[], "", 400, "bad-query"),
    ("GET /api/v1/items?limit=99999999999999999999", &[], "", 400, "bad-query"),
    ("GET /api/v1/items?state=lost", &[], "", 400, "bad-query"),
    ("GET /api/v1/items?colour=blue", &[], "", 400, "bad-query"),
    ("DELETE /api/v1/runs", &[], "", 405, "method-not-allowed"),
    ("PUT /api/v1/jobs", &[JSON], "{}", 405, "method-not-allowed"),
    ("GET /api/v1/items/noop/n-1/retry", &[], "", 405, "method-not-allowed"),
    ("POST /api/v1/items/noop/n-1/retry", &[JSON], "{", 400, "bad-body"),
    ("POST /api/v1/items/noop/n-1/retry", &[JSON], "[1, 2]", 400, "bad-body"),
    ("POST /api/v1/items/noop/n-1/retry", &[JSON], "{\"note\": \"x\"}", 400, "bad-body"),
    ("POST /api/v1/items/noop/n-1/retry", &[("content-type", "text/plain")], "{}", 415, "not-json"),
    ("GET /api/v1/jobs", &[("host", "evil.example")], "", 421, "host-not-allowed"),
    ("GET /", &[("host", "127.0.0.1.evil.example:7070")], "", 421, "host-not-allowed"),
    ("POST /api/v1/jobs/noop", &[JSON, ("origin", "http://evil.example")], "{}", 403, "cross-site"),
    ("POST /api/v1/jobs/noop", &[("sec-fetch-site", "cross-site")], "", 403, "cross-site"),
    ("POST /api/v1/outbox/taken", &[JSON], "{\"ids\": [\"x\"]}", 400, "bad-body"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_with_a_stable_code_and_change_nothing() {
    needs!(Product);
    let (_databases, host) = host().await;
    let store = &host.app.store;
    let before = (
        store.items().get("noop", "n-1").await.unwrap().unwrap().updated_at,
        store.runs().list(None, 10).await.unwrap().len(),
    );
    for (request, headers, body, status, code) in CASES {
        let answer = http::ask(host.app.address, request, headers, body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{request} {headers:?} {body}: {answer:?}"
        );
    }
    let large = "x".repeat(2 << 20);
    let answer = http::ask(host.app.address, "POST /api/v1/jobs/noop", &[JSON], &large).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too-large"));
    let after = (
        store.items().get("noop", "n-1").await.unwrap().unwrap().updated_at,
        store.runs().list(None, 10).await.unwrap().len(),
    );
    assert_eq!(after, before);
    host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_http_do_no_harm() {
    needs!(Product);
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_databases, host) = host().await;
    for bytes in [
        &b"\0\x01\x02\xff\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ] {
        let mut socket = tokio::net::TcpStream::connect(host.app.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
            "{answer}"
        );
    }
    let without_host = b"GET /api/v1/jobs HTTP/1.1\r\nconnection: close\r\n\r\n";
    let mut socket = tokio::net::TcpStream::connect(host.app.address).await.unwrap();
    socket.write_all(without_host).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert_eq!(http::get(host.app.address, "/readyz").await.status, 200);
    host.app.stop().await;
}

/// Makes a decision at a new instant, so that the audit trail has an order.
async fn decide(host: &Host, item: &str, decision: &str) -> (u16, serde_json::Value) {
    host.clock.advance(jiff::SignedDuration::from_millis(1));
    let answer =
        http::post(host.app.address, &format!("/api/v1/items/{item}/{decision}"), "{\"notes\": \"tested\"}")
            .await;
    (answer.status, answer.json())
}

async fn conflict(host: &Host, item: &str, decision: &str, state: &str, done: &str) {
    let (status, problem) = decide(host, item, decision).await;
    assert_eq!(
        (status, problem["code"].as_str(), problem["state"].as_str()),
        (409, Some("conflict"), Some(state))
    );
    assert_eq!(problem["detail"], format!("an item that is {state} cannot be {done}_manually"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_that_do_not_fit_the_state_are_refused_by_its_name() {
    needs!(Product);
    let (_databases, mut host) = host().await;
    conflict(&host, "noop/n-1", "resolve", "resolved", "resolved").await;
    conflict(&host, "noop/n-1", "abandon", "resolved", "abandoned").await;
    start_sleeping(&mut host).await;
    for (decision, done) in [("retry", "retried"), ("resolve", "resolved"), ("abandon", "abandoned")] {
        conflict(&host, "sleeper/s-1", decision, "running", done).await;
    }
    host.app.stop().await;
}

/// Waits until the item `s-1` is running.
async fn start_sleeping(host: &mut Host) {
    host.app.engine.trigger(&"sleeper".parse().unwrap(), None, "test").await.unwrap();
    let running = async {
        let state = async |host: &Host| {
            host.app.store.items().get("sleeper", "s-1").await.unwrap().map(|item| item.state)
        };
        while state(host).await != Some(State::Running) {
            host.something().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_about_an_item_that_waits_are_audited_and_refusals_are_not() {
    needs!(Product);
    let (_databases, mut host) = host().await;
    // Without its plugin the item waits, so that decisions about it are possible.
    std::fs::remove_file(host.plugins.join("noop.wasm")).unwrap();
    let noop = job("noop");
    let blocked =
        |host: &Host| matches!(host.app.engine.readiness(&noop), domain::runner::Readiness::Blocked(_));
    host.until("the plugin is gone", blocked).await;
    assert_eq!(decide(&host, "noop/n-1", "retry").await.1["state"], "scheduled");
    assert_eq!(decide(&host, "noop/n-1", "abandon").await.1["state"], "abandoned");
    conflict(&host, "noop/n-1", "abandon", "abandoned", "abandoned").await;
    conflict(&host, "noop/n-1", "resolve", "abandoned", "resolved").await;
    assert_eq!(decide(&host, "noop/n-1", "retry").await.1["state"], "scheduled");
    assert_eq!(decide(&host, "noop/n-1", "resolve").await.1["state"], "resolved");

    let audit = http::get(host.app.address, "/api/v1/audit").await.json();
    let of_item = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["subject"] == "n-1");
    let trail: Vec<_> =
        of_item.map(|entry| format!("{} {}", entry["action"], entry["detail"]).replace('"', "")).collect();
    let expected = [
        "resolved_manually scheduled -> resolved; tested",
        "retried_manually abandoned -> scheduled; tested",
        "abandoned_manually scheduled -> abandoned; tested",
        "retried_manually resolved -> scheduled; tested",
    ];
    assert_eq!(trail, expected, "each decision, the newest first, and no refusal");
    host.app.stop().await;
}
