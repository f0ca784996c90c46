//! Refused requests and their responses, which are never a 5xx.

use axum::body::Body;
use axum::http::{Method, Request};
use expect_test::expect;

use super::world::{World, get, post};

fn with(mut request: Request<Body>, headers: &[(&'static str, &'static str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn reported(world: &World, requests: Vec<Request<Body>>) -> String {
    let mut lines = String::new();
    for request in requests {
        let shown = format!("{} {}", request.method(), request.uri());
        let answer = world.ask(request).await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let (code, detail) = (&body["code"], &body["detail"]);
        lines.push_str(&format!("{shown}\n  {} {code} {detail}\n", answer.status.as_u16()));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_paths() {
    let world = World::new().await;
    world.discover(&["k"]).await;
    let mut put = get("/api/v1/runs");
    *put.method_mut() = Method::PUT;
    let requests = vec![
        get("/api/v1/runs?limit=-1"),
        get("/api/v1/runs?limit=1e400"),
        get("/api/v1/runs?limit=99999999999999999999"),
        get("/api/v1/runs?limit=1&limit=2"),
        get("/api/v1/runs?colour=blue"),
        get("/api/v1/items?state=ready"),
        get("/api/v1/items/wallet/%FF"),
        get("/api/v1/items/wallet/none"),
        get("/api/v1/runs/1"),
        get("/api/v1/nothing"),
        get("/nothing"),
        put,
        get("/api/v1/items/wallet/k/retry"),
    ];
    expect![[r#"
        GET /api/v1/runs?limit=-1
          400 "bad-query" "limit: invalid digit found in string"
        GET /api/v1/runs?limit=1e400
          400 "bad-query" "limit: invalid digit found in string"
        GET /api/v1/runs?limit=99999999999999999999
          400 "bad-query" "limit: number too large to fit in target type"
        GET /api/v1/runs?limit=1&limit=2
          400 "bad-query" "duplicate field `limit`"
        GET /api/v1/runs?colour=blue
          400 "bad-query" "colour: unknown field `colour`, expected `job` or `limit`"
        GET /api/v1/items?state=ready
          400 "bad-query" "state: \"ready\" is no state of an item; use pending, retrying, scheduled (both of them), running, awaiting, resolved, manual_required (shown as \"needs a person\") or abandoned"
        GET /api/v1/items/wallet/%FF
          400 "bad-path" "Invalid URL: Invalid UTF-8 in `key`"
        GET /api/v1/items/wallet/none
          404 "not-found" "there is no item \"none\" of job \"wallet\""
        GET /api/v1/runs/1
          404 "not-found" "there is no run \"1\""
        GET /api/v1/nothing
          404 "not-found" "there is nothing at /api/v1/nothing"
        GET /nothing
          404 "not-found" "there is nothing at /nothing"
        PUT /api/v1/runs
          405 "method-not-allowed" "/api/v1/runs does not answer to PUT"
        GET /api/v1/items/wallet/k/retry
          405 "method-not-allowed" "/api/v1/items/wallet/k/retry does not answer to GET"
    "#]].assert_eq(&reported(&world, requests).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies() {
    let world = World::new().await;
    world.discover(&["k"]).await;
    let deep = "[".repeat(10_000);
    let long = format!("{{\"notes\": \"{}\"}}", "x".repeat(5_000));
    let huge = "x".repeat(2 << 20);
    let requests = vec![
        post("/api/v1/items/wallet/k/explode", "{}"),
        post("/api/v1/items/wallet/k/retry", "{"),
        post("/api/v1/items/wallet/k/retry", "null"),
        post("/api/v1/items/wallet/k/retry", "{\"notes\": 1}"),
        post("/api/v1/items/wallet/k/retry", "{\"notes\": \"a\", \"notes\": \"b\"}"),
        post("/api/v1/items/wallet/k/retry", "{\"note\": \"a\"}"),
        post("/api/v1/items/wallet/k/retry", &long),
        post("/api/v1/items/wallet/k/retry", &deep),
        post("/api/v1/items/wallet/k/retry", &huge),
        with(post("/api/v1/items/wallet/k/retry", "{}"), &[("content-type", "text/plain")]),
        post("/api/v1/outbox/taken", ""),
        post("/api/v1/outbox/taken", "{\"ids\": [\"x\"]}"),
        post("/api/v1/jobs/Wallet", ""),
    ];
    expect![[r#"
        POST /api/v1/items/wallet/k/explode
          404 "not-found" "\"explode\" is no decision: use retry, resolve, manual or abandon"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "EOF while parsing an object at line 1 column 1"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "invalid type: null, expected struct Decision at line 1 column 4"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "notes: invalid type: integer `1`, expected a string at line 1 column 11"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "duplicate field `notes` at line 1 column 22"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "note: unknown field `note`, expected `version` or `notes` at line 1 column 7"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "notes: at most 4096 bytes"
        POST /api/v1/items/wallet/k/retry
          400 "bad-body" "[0]: invalid type: sequence, expected i64 at line 1 column 1"
        POST /api/v1/items/wallet/k/retry
          413 "too-large" "a body has at most 1048576 bytes"
        POST /api/v1/items/wallet/k/retry
          415 "not-json" "send JSON, with content-type: application/json"
        POST /api/v1/outbox/taken
          400 "bad-body" "missing field `ids` at line 1 column 2"
        POST /api/v1/outbox/taken
          400 "bad-body" "ids[0]: \"x\" is not an event's id"
        POST /api/v1/jobs/Wallet
          404 "not-found" "there is no job \"Wallet\"; did you mean \"wallet\"?"
    "#]]
    .assert_eq(&reported(&world, requests).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_sites() {
    let world = World::new().await;
    let trigger = || post("/api/v1/jobs/wallet", "");
    let requests = vec![
        with(get("/api/v1/jobs"), &[("host", "evil.example")]),
        with(get("/"), &[("host", "localhost.evil.example:7070")]),
        with(get("/"), &[("host", "127.0.0.1:7070:80")]),
        with(get("/"), &[("host", "")]),
        get("http://evil.example/api/v1/jobs"),
        with(trigger(), &[("origin", "http://evil.example")]),
        with(trigger(), &[("origin", "null")]),
        with(trigger(), &[("origin", "http://127.0.0.1:9999")]),
        with(trigger(), &[("sec-fetch-site", "cross-site")]),
        with(trigger(), &[("sec-fetch-site", "same-site")]),
    ];
    expect![[r#"
        GET /api/v1/jobs
          421 "host-not-allowed" "\"evil.example\" is not a name of this host: use http://127.0.0.1:7070"
        GET /
          421 "host-not-allowed" "\"localhost.evil.example:7070\" is not a name of this host: use http://127.0.0.1:7070"
        GET /
          421 "host-not-allowed" "\"127.0.0.1:7070:80\" is not a name of this host: use http://127.0.0.1:7070"
        GET /
          421 "host-not-allowed" "\"\" is not a name of this host: use http://127.0.0.1:7070"
        GET http://evil.example/api/v1/jobs
          421 "host-not-allowed" "\"evil.example\" is not a name of this host: use http://127.0.0.1:7070"
        POST /api/v1/jobs/wallet
          403 "cross-site" "a page of another site may not change anything here"
        POST /api/v1/jobs/wallet
          403 "cross-site" "a page of another site may not change anything here"
        POST /api/v1/jobs/wallet
          403 "cross-site" "a page of another site may not change anything here"
        POST /api/v1/jobs/wallet
          403 "cross-site" "a page of another site may not change anything here"
        POST /api/v1/jobs/wallet
          403 "cross-site" "a page of another site may not change anything here"
    "#]].assert_eq(&reported(&world, requests).await);
    let requests = vec![
        with(get("/healthz"), &[("host", "localhost:8080")]),
        with(get("/healthz"), &[("host", "[::1]:7070")]),
        with(get("/healthz"), &[("host", "127.0.0.1")]),
        with(trigger(), &[("origin", "http://127.0.0.1:7070"), ("sec-fetch-site", "same-origin")]),
    ];
    expect![[r#"
        GET /healthz
          200 null null
        GET /healthz
          200 null null
        GET /healthz
          200 null null
        POST /api/v1/jobs/wallet
          201 null null
    "#]]
    .assert_eq(&reported(&world, requests).await);
}
