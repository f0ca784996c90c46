//! Responses explain why requested work does not start yet.

use axum::http::StatusCode;
use expect_test::expect;
use serde_json::Value;

use super::world::{World, get, post};

const BATCH: &str = r#"{"id":"b","job":"wallet","items":[{"operation":"a","payload":{}}]}"#;

async fn ask(world: &World, path: &str, body: &str) -> (u16, Value) {
    let answer = world.ask(post(path, body)).await;
    (answer.status.as_u16(), serde_json::from_str(&answer.body).unwrap())
}

/// Each request that creates work for a job, with the reason why that work waits.
async fn waits(world: &World) -> String {
    let requests = [
        ("/api/v1/jobs/wallet", "{}"),
        ("/api/v1/jobs/wallet/items", r#"{"key":"a"}"#),
        ("/api/v1/items/wallet/a/retry", "{}"),
        ("/api/v1/batches", BATCH),
        ("/api/v1/batches/b/process", "{}"),
    ];
    let mut reported = String::new();
    for (path, body) in requests {
        let (status, answer) = ask(world, path, body).await;
        reported.push_str(&format!("{status} {path}: {}\n", answer["waits"].as_str().unwrap_or("-")));
    }
    reported
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_a_blocked_job_waits() {
    let world = World::new().await;
    expect![[r#"
        201 /api/v1/jobs/wallet: job wallet cannot run on this host: there is no plugin "wallet-keygen"
        201 /api/v1/jobs/wallet/items: job wallet cannot run on this host: there is no plugin "wallet-keygen"
        200 /api/v1/items/wallet/a/retry: job wallet cannot run on this host: there is no plugin "wallet-keygen"
        201 /api/v1/batches: job wallet cannot run on this host: there is no plugin "wallet-keygen"
        202 /api/v1/batches/b/process: job wallet cannot run on this host: there is no plugin "wallet-keygen"
    "#]]
    .assert_eq(&waits(&world).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_a_paused_job_waits() {
    let world = World::new().await;
    assert_eq!(ask(&world, "/api/v1/jobs/wallet/pause", "{}").await.0, 200);
    expect![[r#"
        201 /api/v1/jobs/wallet: job wallet is paused by local since 2026-11-20T12:00:30Z: resume it with `tidemill jobs resume wallet`
        201 /api/v1/jobs/wallet/items: job wallet is paused by local since 2026-11-20T12:00:30Z: resume it with `tidemill jobs resume wallet`
        200 /api/v1/items/wallet/a/retry: job wallet is paused by local since 2026-11-20T12:00:30Z: resume it with `tidemill jobs resume wallet`
        201 /api/v1/batches: job wallet is paused by local since 2026-11-20T12:00:30Z: resume it with `tidemill jobs resume wallet`
        202 /api/v1/batches/b/process: job wallet is paused by local since 2026-11-20T12:00:30Z: resume it with `tidemill jobs resume wallet`
    "#]]
    .assert_eq(&waits(&world).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_waits_while_all_jobs_are_paused() {
    let world = World::new().await;
    assert_eq!(ask(&world, "/api/v1/pause", "{}").await.0, 200);
    let reported = waits(&world).await;
    assert_eq!(reported.matches("all jobs are paused by local since").count(), 5, "{reported}");
    // If the job has its own pause, both have to end.
    let (status, paused) = ask(&world, "/api/v1/jobs/wallet/pause", "{}").await;
    assert_eq!((status, &paused["paused"], &paused["changed"]), (200, &true.into(), &true.into()));
    assert!(paused["detail"].as_str().unwrap().starts_with("all jobs are paused by local"), "{paused}");
    let (_, run) = ask(&world, "/api/v1/jobs/wallet", "{}").await;
    let why = run["waits"].as_str().unwrap();
    assert!(why.contains("`tidemill jobs resume wallet`") && why.contains("resume --all"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_would_remain_paused_is_not_resumed() {
    let world = World::new().await;
    for path in ["/api/v1/jobs/wallet/pause", "/api/v1/pause"] {
        assert_eq!(ask(&world, path, "{}").await.0, 200);
    }
    let (status, refused) = ask(&world, "/api/v1/jobs/wallet/resume", "{}").await;
    assert_eq!((status, &refused["code"], &refused["state"]), (409, &"all-paused".into(), &"paused".into()));
    expect![
        "job wallet remains paused, and nothing has changed: all jobs are paused by local since 2026-11-20T12:00:30Z: resume them with `tidemill jobs resume --all`"
    ]
    .assert_eq(refused["detail"].as_str().unwrap());
    expect![[r#"
        {
          "changed": true,
          "detail": "still paused individually: wallet",
          "paused": false,
          "still_paused": [
            "wallet"
          ]
        }"#]]
    .assert_eq(&world.json(post("/api/v1/resume", "{}")).await);
    assert!(world.ask(get("/api/v1/jobs")).await.body.contains(r#""paused":{"#));
    let (status, resumed) = ask(&world, "/api/v1/jobs/wallet/resume", "{}").await;
    assert_eq!((status, &resumed["paused"], &resumed["changed"]), (200, &false.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_begins_does_not_wait() {
    let world = World::new().await;
    world.plugin_is_there(true);
    let started = world.ask(post("/api/v1/jobs/wallet", "")).await;
    assert_eq!(started.status, StatusCode::CREATED);
    assert!(!started.body.contains("waits"), "{}", started.body);
}
