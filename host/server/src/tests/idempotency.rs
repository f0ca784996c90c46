//! Requests with a key: each POST is carried out once, and its response describes the result.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use super::world::{Answer, World, get, post};

fn keyed(key: &str, path: &str, body: &str) -> Request<Body> {
    let mut request = post(path, body);
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn field(answer: &Answer, name: &str) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body[name].as_str().unwrap_or_default().to_owned()
}

async fn entries(world: &World) -> usize {
    world.state.store.audit().list(500).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_is_added_once_although_it_was_resolved_meanwhile() {
    let world = World::new().await;
    let request = || keyed("\"k\"", "/api/v1/jobs/wallet/items", r#"{"key":"a","payload":"1"}"#);
    let first = world.ask(request()).await;
    assert_eq!((first.status.as_u16(), field(&first, "outcome").as_str()), (201, "added"));
    assert!(!first.headers.contains_key("idempotency-replayed"));
    world.ask(post("/api/v1/items/wallet/a/resolve", "{}")).await;
    let before = entries(&world).await;
    let again = world.ask(request()).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.headers["content-type"], "application/json");
    assert_eq!(entries(&world).await, before);
    assert!(world.ask(get("/api/v1/items/wallet/a")).await.body.contains(r#""state":"resolved""#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_reports_the_outcome_of_the_payload() {
    let world = World::new().await;
    let add = async |payload: &str| {
        let body = format!(r#"{{"key":"a","payload":"{payload}"}}"#);
        let answer = world.ask(post("/api/v1/jobs/wallet/items", &body)).await;
        (
            answer.status.as_u16(),
            field(&answer, "outcome"),
            field(&answer, "payload"),
            field(&answer, "detail"),
        )
    };
    let reported = |status, outcome: &str, payload: &str, detail: &str| {
        (status, outcome.to_owned(), payload.to_owned(), detail.to_owned())
    };
    assert_eq!(add("1").await, reported(201, "added", "1", "\"a\" is added to wallet"));
    let same = "\"a\" of wallet is pending already: its payload is the one sent";
    assert_eq!(add("1").await, reported(200, "kept", "1", same));
    let dropped = "\"a\" of wallet is pending already: it keeps its payload, and the one sent was dropped";
    assert_eq!(add("2").await, reported(200, "kept", "1", dropped));
    world.ask(post("/api/v1/items/wallet/a/resolve", "{}")).await;
    let restarted = "\"a\" of wallet was resolved: it starts again with the payload sent";
    assert_eq!(add("2").await, reported(201, "reopened", "2", restarted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_belongs_to_one_request() {
    let world = World::new().await;
    let path = "/api/v1/jobs/wallet/items";
    let first = world.ask(keyed("k", path, r#"{"key":"a"}"#)).await;
    assert_eq!(first.status, 201);
    for (path, body) in [(path, r#"{"key":"b"}"#), ("/api/v1/jobs/wallet", r#"{"key":"a"}"#)] {
        let other = world.ask(keyed("\"k\"", path, body)).await;
        assert_eq!((other.status.as_u16(), field(&other, "code").as_str()), (422, "idempotency-key-reused"));
    }
    for bad in ["", "\"\"", "\"open", "\"a\";b", "\"a\\b\"", &"x".repeat(256)] {
        let refused = world.ask(keyed(bad, path, r#"{"key":"c"}"#)).await;
        assert_eq!(field(&refused, "code"), "bad-idempotency-key", "{bad}");
    }
    // A refused request changed nothing, so its key stays free.
    assert_eq!(world.ask(keyed("free", path, r#"{"kay":"d"}"#)).await.status, 400);
    assert_eq!(world.ask(keyed("free", path, r#"{"key":"d"}"#)).await.status, 201);
}
