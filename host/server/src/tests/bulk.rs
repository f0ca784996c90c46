//! Streams of items: the added items, and reports of refused lines.

use axum::body::{Body, Bytes};
use axum::http::Request;
use domain::limits::Limits;
use expect_test::expect;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::world::{World, get, post};
use crate::api::lines::Lines;
use crate::http::LINE_BYTES_MAX;

const PATH: &str = "/api/v1/jobs/wallet/items";

fn request(body: Body) -> Request<Body> {
    let mut request = post(PATH, "");
    request.headers_mut().insert("content-type", "application/x-ndjson".parse().unwrap());
    *request.body_mut() = body;
    request
}

fn with_header(name: &'static str, value: &str, body: &str) -> Request<Body> {
    let mut request = request(Body::from(body.to_owned()));
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn line(key: &str) -> String {
    format!("{}\n", json!({ "key": key, "payload": "{}" }))
}

fn lines(keys: std::ops::Range<u32>) -> String {
    keys.map(|n| line(&format!("k{n:05}"))).collect()
}

/// A body that arrives in parts, and then fails.
fn cut(parts: Vec<String>) -> Body {
    let parts = parts.into_iter().map(|part| Ok(Bytes::from(part)));
    let error = std::io::Error::other("the client is gone");
    Body::from_stream(stream::iter(parts.chain([Err(error)])))
}

impl World {
    /// Status, code and detail of a refusal.
    async fn refused(&self, request: Request<Body>) -> String {
        let answer = self.ask(request).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        format!("{} {} {}\n", answer.status.as_u16(), body["code"], body["detail"])
    }

    async fn added(&self, body: impl Into<Body>) -> (u64, u64, u64) {
        let answer = self.ask(request(body.into())).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let number = |name: &str| body[name].as_u64().unwrap();
        (number("added"), number("reopened"), number("kept"))
    }

    async fn stored(&self) -> u32 {
        self.state.store.items().counts().await.unwrap().iter().map(|count| count.items).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_of_several_portions_is_added() {
    let world = World::new().await;
    assert_eq!(world.added("").await, (0, 0, 0));
    let text = format!("\r\n{}\n  \n{}", lines(0..11_000).replace('\n', "\r\n"), line("last").trim_end());
    assert_eq!(world.added(text.clone()).await, (11_001, 0, 0));
    assert_eq!(world.stored().await, 11_001);
    assert_eq!(world.added(text).await, (0, 0, 11_001));
    world.ask(post("/api/v1/items/wallet/last/resolve", "{}")).await;
    let answer = world.ask(request(Body::from(line("last") + &line("k00001")))).await;
    expect![[r#"{"added":0,"reopened":1,"kept":1,"waits":"job wallet cannot run on this host: there is no plugin \"wallet-keygen\""}"#]]
        .assert_eq(&answer.body);
    let trail = world.ask(get("/api/v1/audit")).await;
    let trail: Value = serde_json::from_str(&trail.body).unwrap();
    let records = trail["audit"].as_array().unwrap().iter().filter(|one| one["action"] == "items_added");
    let records: Vec<_> =
        records.map(|one| one["detail"].as_str().unwrap().split(';').next().unwrap()).collect();
    let expected = [
        "0 added, 1 reopened, 1 kept",
        "1001 added, 0 reopened, 0 kept",
        "5000 added, 0 reopened, 0 kept",
        "5000 added, 0 reopened, 0 kept",
    ];
    assert_eq!(sorted(records), sorted(expected.to_vec()));
}

/// Records of the same instant have no order.
fn sorted(mut all: Vec<&str>) -> Vec<&str> {
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_limit_a_portion_too() {
    let world = World::new().await;
    let payload = "x".repeat(200 << 10);
    let text: String =
        (0..8).map(|n| format!("{}\n", json!({ "key": n.to_string(), "payload": payload }))).collect();
    assert_eq!(world.added(text).await, (8, 0, 0));
    let records = world.state.store.audit().list(9).await.unwrap();
    assert_eq!(records.iter().filter(|one| one.action == "items_added").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_line_is_named() {
    let world = World::of(Limits { payload_bytes: 10, ..Limits::DEFAULT }).await;
    let good = line("good");
    let mut reported = String::new();
    for bad in [
        "{",
        "\"text\"",
        "null",
        "{\"key\": \"a\", \"payloads\": \"\"}",
        "{\"key\": \"a\", \"key\": \"a\"}",
        "{\"key\": 1}",
        "{\"payload\": \"\"}",
        "{\"key\": \"\"}",
        "{\"key\": \"a\\u0007b\"}",
        "{\"key\": \"a\", \"payload\": \"01234567890\"}",
        "{\"key\": \"a\", \"payload\": \"\\u0000\"}",
        "{\"key\": \"a\"} {\"key\": \"b\"}",
    ] {
        reported.push_str(&world.refused(request(Body::from(format!("{good}\n{bad}\n{good}")))).await);
    }
    expect![[r#"
        400 "bad-body" "line 3: EOF while parsing an object at column 1; no item was added"
        400 "bad-body" "line 3: invalid type: string \"text\", expected struct AddItem at column 6; no item was added"
        400 "bad-body" "line 3: invalid type: null, expected struct AddItem at column 4; no item was added"
        400 "bad-body" "line 3: unknown field `payloads`, expected `key` or `payload` at column 23; no item was added"
        400 "bad-body" "line 3: duplicate field `key` at column 18; no item was added"
        400 "bad-body" "line 3: invalid type: integer `1`, expected a string at column 9; no item was added"
        400 "bad-body" "line 3: missing field `key` at column 15; no item was added"
        400 "bad-body" "line 3: key: it has 0 bytes, 1 to 512 are allowed; no item was added"
        400 "bad-body" "line 3: key: it holds the control or invisible character U+0007; no item was added"
        400 "bad-body" "line 3: payload: at most 10 bytes, without a zero byte; no item was added"
        400 "bad-body" "line 3: payload: at most 10 bytes, without a zero byte; no item was added"
        400 "bad-body" "line 3: trailing characters at column 14; no item was added"
    "#]].assert_eq(&reported);
    let not_utf8 = world.refused(request(Body::from(&b"{\"key\": \"\xff\"}\n"[..]))).await;
    assert!(not_utf8.starts_with("400 \"bad-body\" \"line 1: invalid unicode code point"), "{not_utf8}");
    assert_eq!(world.stored().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portions_before_a_refused_line_stay() {
    let world = World::new().await;
    let text = format!("{}{}oops\n{}", lines(0..5_000), lines(5_000..5_010), lines(6_000..6_010));
    expect![[r#"
        400 "bad-body" "line 5011: expected value at column 1; the items of lines 1 to 5000 are in the store (5000 added, 0 reopened, 0 kept): continue after them, or send all again: an item that is open is kept"
    "#]].assert_eq(&world.refused(request(Body::from(text))).await);
    assert_eq!(world.stored().await, 5_000);
    assert_eq!(world.added(lines(0..5_010)).await, (10, 0, 5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_has_a_maximum_length() {
    let world = World::new().await;
    let long = format!("{}{}", line("a"), " ".repeat(LINE_BYTES_MAX + 1));
    let in_parts = long.as_bytes().chunks(10_000).map(|part| Ok(Bytes::copy_from_slice(part)));
    let in_parts: Vec<Result<Bytes, std::io::Error>> = in_parts.collect();
    // The end of the line does not matter: it is not waited for.
    let never_ends = stream::iter(in_parts).chain(stream::pending());
    let expected = expect![[r#"
        413 "too-large" "line 2: a line has at most 1048576 bytes; no item was added"
    "#]];
    expected.assert_eq(&world.refused(request(Body::from_stream(never_ends))).await);
    expected.assert_eq(&world.refused(request(Body::from(long + "\n"))).await);
    let longest = line("a").trim_end().to_owned();
    let longest = format!("{longest}{}\n", " ".repeat(LINE_BYTES_MAX - longest.len()));
    assert_eq!(world.added(longest).await, (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_stream_keeps_its_whole_portions() {
    let world = World::new().await;
    let body = cut(vec![lines(0..5_000), lines(5_000..5_005), "{\"key\":".to_owned()]);
    expect![[r#"
        400 "bad-body" "the body ended in line 5006: the client is gone; the items of lines 1 to 5000 are in the store (5000 added, 0 reopened, 0 kept): continue after them, or send all again: an item that is open is kept"
    "#]].assert_eq(&world.refused(request(body)).await);
    assert_eq!(world.stored().await, 5_000);
    expect![[r#"
        400 "bad-body" "the body ended in line 1: the client is gone; no item was added"
    "#]]
    .assert_eq(&world.refused(request(cut(Vec::new()))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_of_the_host_ends_a_stream() {
    let world = World::new().await;
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(lines(0..5_000)))]);
    world.state.stopping.cancel();
    let refused = world.refused(request(Body::from_stream(first.chain(stream::pending())))).await;
    assert!(refused.starts_with("503 \"stopping\" \"the host stops: "), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_items_are_limited() {
    let world = World::of(Limits { items_open: 5_500, ..Limits::DEFAULT }).await;
    expect![[r#"
        409 "too-many-open-items" "lines 5001 to 5501: job wallet may have at most 5500 open items; send them when others are done, or raise limits.items_open; the items of lines 1 to 5000 are in the store (5000 added, 0 reopened, 0 kept): continue after them, or send all again: an item that is open is kept"
    "#]].assert_eq(&world.refused(request(Body::from(lines(0..5_501)))).await);
    assert_eq!(world.stored().await, 5_000);
    assert_eq!(world.added(lines(0..5_500)).await, (500, 0, 5_000));
    assert_eq!(world.added(lines(0..5_500)).await, (0, 0, 5_500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_kinds_keys_and_jobs_are_refused() {
    let world = World::new().await;
    let other_job = {
        let mut request = request(Body::from(line("a")));
        *request.uri_mut() = "/api/v1/jobs/wallt/items".parse().unwrap();
        request
    };
    let elsewhere = {
        let mut request = request(Body::from(line("a")));
        *request.uri_mut() = "/api/v1/jobs/wallet".parse().unwrap();
        request
    };
    let mut reported = String::new();
    for request in [
        with_header("idempotency-key", "\"k\"", &line("a")),
        with_header("content-type", "text/plain", &line("a")),
        with_header("content-type", "application/json", &lines(0..2)),
        other_job,
        elsewhere,
    ] {
        reported.push_str(&world.refused(request).await);
    }
    expect![[r#"
        400 "bad-idempotency-key" "idempotency-key: a stream of items takes none, because it is written in portions. Send it without a key: each item is known by its own"
        415 "not-json" "send JSON, with content-type: application/json"
        400 "bad-body" "trailing characters at line 2 column 1"
        404 "not-found" "there is no job \"wallt\"; did you mean \"wallet\"?"
        415 "not-json" "send JSON, with content-type: application/json"
    "#]].assert_eq(&reported);
    assert_eq!(world.stored().await, 0);
    let kind = "Application/X-NDJSON; charset=utf-8";
    assert_eq!(world.ask(with_header("content-type", kind, &line("a"))).await.status, 200);
}

#[test]
fn lines_do_not_depend_on_the_parts() {
    let text = b"one\n\ntwo\r\nthree and more\nrest";
    for size in 1..=text.len() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for part in text.chunks(size) {
            lines.push(Bytes::copy_from_slice(part));
            while let Some(line) = lines.next() {
                found.push(line);
            }
        }
        assert_eq!(lines.started(), 4, "{size}");
        found.extend(lines.rest());
        assert_eq!(found, [&b"one"[..], b"", b"two\r", b"three and more", b"rest"], "{size}");
        assert_eq!((lines.started(), lines.rest()), (0, None));
    }
}
