//! Filters of lists: the displayed names of states, and jobs that do not exist.

use axum::http::StatusCode;
use domain::failure::ErrorInfo;
use expect_test::expect;
use serde_json::Value;

use super::world::{Answer, World, get, post};

fn keys(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let items = body["items"].as_array().unwrap().iter();
    let mut keys: Vec<String> = items.map(|item| item["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

fn detail(answer: &Answer) -> String {
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    format!("{} {}", answer.status.as_u16(), problem["detail"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_as_they_are_shown_and_as_they_are_stored() {
    let world = World::new().await;
    world.discover(&["a", "b", "c", "d"]).await;
    world.fail_one(ErrorInfo::new("busy", "try later")).await;
    for (key, decision) in [("b", "manual"), ("c", "abandon")] {
        assert_eq!(world.ask(post(&format!("/api/v1/items/wallet/{key}/{decision}"), "")).await.status, 200);
    }
    for (word, expected) in [
        ("pending", vec!["d"]),
        ("retrying", vec!["a"]),
        ("scheduled", vec!["a", "d"]),
        ("manual_required", vec!["b"]),
        ("needs%20a%20person", vec!["b"]),
        ("needs-a-person", vec!["b"]),
        ("For%20a%20person", vec!["b"]),
        ("MANUAL-REQUIRED", vec!["b"]),
        ("abandoned", vec!["c"]),
        ("running", vec![]),
        ("awaiting", vec![]),
        ("resolved", vec![]),
    ] {
        for job in ["", "&job=wallet"] {
            let answer = world.ask(get(&format!("/api/v1/items?state={word}{job}"))).await;
            assert_eq!(keys(&answer), expected, "{word}");
        }
    }
    // The filters accept all states that the lists show.
    let items = world.ask(get("/api/v1/items")).await;
    let items: Value = serde_json::from_str(&items.body).unwrap();
    for item in items["items"].as_array().unwrap() {
        for word in ["shown", "state"] {
            let word = item[word].as_str().unwrap();
            let answer = world.ask(get(&format!("/api/v1/items?state={word}"))).await;
            assert!(keys(&answer).contains(&item["key"].as_str().unwrap().to_owned()), "{word}");
        }
    }
    let wrong = world.ask(get("/api/v1/items?state=pendign")).await;
    expect![[r#"400 state: "pendign" is no state of an item; did you mean "pending"?; use pending, retrying, scheduled (both of them), running, awaiting, resolved, manual_required (shown as "needs a person") or abandoned"#]].assert_eq(&detail(&wrong));
    assert!(detail(&world.ask(get("/api/v1/items?state=")).await).starts_with("400 state: \"\" is no state"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_job_is_no_empty_list() {
    let world = World::new().await;
    for path in [
        "items?job=walet",
        "items?state=pending&job=walet",
        "runs?job=walet",
        "items/walet/k",
        "jobs/walet/ticks",
        "jobs/walet/edits",
    ] {
        let answer = world.ask(get(&format!("/api/v1/{path}"))).await;
        assert_eq!(detail(&answer), "404 there is no job \"walet\"; did you mean \"wallet\"?", "{path}");
    }
    for (path, body) in [
        ("", "{}"),
        ("/items", r#"{"key":"k"}"#),
        ("/pause", "{}"),
        ("/resume", "{}"),
        ("/edits", r#"{"clear":["*"]}"#),
    ] {
        let answer = world.ask(post(&format!("/api/v1/jobs/walet{path}"), body)).await;
        assert_eq!(detail(&answer), "404 there is no job \"walet\"; did you mean \"wallet\"?", "{path}");
    }
    for decision in ["retry", "resolve", "manual", "abandon"] {
        let answer = world.ask(post(&format!("/api/v1/items/walet/k/{decision}"), "")).await;
        assert_eq!(detail(&answer), "404 there is no job \"walet\"; did you mean \"wallet\"?");
    }
    let batch = r#"{"job":"walet","items":[{"operation":"a","payload":{}}]}"#;
    let answer = world.ask(post("/api/v1/batches", batch)).await;
    assert_eq!(detail(&answer), "400 job: there is no job \"walet\"; did you mean \"wallet\"?");
    let far = world.ask(get("/api/v1/runs?job=something-else")).await;
    assert_eq!(detail(&far), "404 there is no job \"something-else\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_no_empty_list() {
    let world = World::new().await;
    let answer = world.ask(get("/api/v1/outbox?topic=tidemil.alert")).await;
    let expected =
        "404 there is no topic \"tidemil.alert\": no job may publish to it; did you mean \"tidemill.alert\"?";
    assert_eq!(detail(&answer), expected);
    assert_eq!(world.ask(get("/api/v1/outbox?topic=tidemill.alert")).await.status, 200);
    assert_eq!(world.ask(get("/api/v1/outbox")).await.status, 200);
}

/// A job that was removed from the configuration, or runs on another host, still has its items and runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_the_store_alone_is_listed() {
    let world = World::new().await;
    world.discover(&["a"]).await;
    world.state.engine.set_jobs(Vec::new()).await.unwrap();
    assert_eq!(keys(&world.ask(get("/api/v1/items?job=wallet")).await), ["a"]);
    assert_eq!(world.ask(get("/api/v1/runs?job=wallet")).await.status, 200);
    assert_eq!(world.ask(get("/api/v1/items/wallet/a")).await.status, 200);
    let retried = world.ask(post("/api/v1/items/wallet/a/retry", "")).await;
    assert!(retried.body.contains("is not in the configuration of this host"), "{}", retried.body);
    assert_eq!(world.ask(get("/api/v1/items?job=walet")).await.status, 404);
}
