//! Text in requests: which keys are accepted, and the handling of invisible characters.

use serde_json::{Value, json};

use super::world::{World, get, post};

/// Each text once in JSON and once in a path.
const EVIL: [(&str, &str); 7] = [
    ("a\\u0000", "a%00"),
    ("a\\nb", "a%0Ab"),
    ("\\u001b[31m", "%1B[31m"),
    ("a\\u0085", "a%C2%85"),
    ("a\u{202e}b", "a%E2%80%AEb"),
    ("a\u{2028}b", "a%E2%80%A8b"),
    ("a\u{200b}b", "a%E2%80%8Bb"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_over_the_api_follow_the_rule_of_discoveries() {
    let world = World::new().await;
    for (key, in_path) in EVIL {
        let refused = world.ask(post("/api/v1/jobs/wallet/items", &format!("{{\"key\": \"{key}\"}}"))).await;
        assert_eq!(refused.status.as_u16(), 400, "{key}: {}", refused.body);
        assert!(refused.body.contains("control or invisible character U+"), "{}", refused.body);
        let lock = world.ask(post(&format!("/api/v1/locks/{in_path}/take"), "{\"ttl\": \"1m\"}")).await;
        assert_eq!(lock.status.as_u16(), 400, "{key}: {}", lock.body);
        let batch = format!(
            "{{\"id\": \"{key}\", \"job\": \"wallet\", \"items\": [{{\"operation\": \"o\", \"payload\": 1}}]}}"
        );
        let batch = world.ask(post("/api/v1/batches", &batch)).await;
        assert_eq!(batch.status.as_u16(), 400, "{key}: {}", batch.body);
        let by = format!(
            "{{\"created_by\": \"{key}\", \"job\": \"wallet\", \"items\": [{{\"operation\": \"o\", \"payload\": 1}}]}}"
        );
        let by = world.ask(post("/api/v1/batches", &by)).await;
        assert_eq!(by.status.as_u16(), 400, "{key}: {}", by.body);
    }
    let taken = world.ask(post("/api/v1/jobs/wallet/items", "{\"key\": \"钱包/1 ü\"}")).await;
    assert_eq!(taken.status.as_u16(), 201, "{}", taken.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zero_byte_in_a_path_or_query_is_the_requests_fault() {
    let world = World::new().await;
    for path in [
        "/api/v1/items/wallet/a%00",
        "/api/v1/batches/a%00",
        "/api/v1/outbox?topic=a%00",
        "/api/v1/locks?after=a%00",
    ] {
        let answer = world.ask(get(path)).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}: {}", answer.body);
        assert!(answer.body.contains("bad-text"), "{path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_kept_with_hidden_characters_shown() {
    let world = World::new().await;
    world.discover(&["k"]).await;
    let decision = json!({ "notes": "see\n\u{1b}[2J\u{202e}" }).to_string();
    let answer = world.ask(post("/api/v1/items/wallet/k/resolve", &decision)).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let item: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(item["note"], "see\n\\u{1b}[2J\\u{202e}");
    let zero =
        world.ask(post("/api/v1/items/wallet/k/retry", &json!({ "notes": "a\u{0}" }).to_string())).await;
    assert_eq!(zero.status.as_u16(), 400, "{}", zero.body);
}
