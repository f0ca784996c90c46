//! Goldens of the API: the lists, the decisions, and the responses while the store is unavailable.

use axum::http::StatusCode;
use expect_test::expect;

use super::world::{World, get, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs() {
    let world = World::new().await;
    world.plugin_is_there(true);
    let jobs = world.json(get("/api/v1/jobs")).await;
    expect![[r#"
        {
          "jobs": [
            {
              "blocked": null,
              "concurrency": 4,
              "digest": "0707070707070707070707070707070707070707070707070707070707070707",
              "items": [],
              "items_per_run_max": 10,
              "name": "wallet",
              "next_due_at": "2026-11-20T12:01:00Z",
              "paused": null,
              "plugin": "wallet-keygen",
              "schedule": "cron * * * * * (Europe/Berlin)"
            }
          ]
        }"#]]
    .assert_eq(&jobs);
    world.plugin_is_there(false);
    world.discover(&["a/b", "c"]).await;
    let jobs = world.json(get("/api/v1/jobs")).await;
    expect![[r#"
        {
          "jobs": [
            {
              "blocked": "there is no plugin \"wallet-keygen\"",
              "concurrency": 4,
              "digest": null,
              "items": [
                {
                  "items": 2,
                  "state": "pending"
                }
              ],
              "items_per_run_max": 10,
              "name": "wallet",
              "next_due_at": "2026-11-20T12:01:00Z",
              "paused": null,
              "plugin": "wallet-keygen",
              "schedule": "cron * * * * * (Europe/Berlin)"
            }
          ]
        }"#]]
    .assert_eq(&jobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs() {
    let world = World::new().await;
    world.discover(&["a/b", "c"]).await;
    let runs = world.json(get("/api/v1/runs?job=wallet&limit=1")).await;
    expect![[r#"
        {
          "runs": [
            {
              "absent": 0,
              "created_at": "2026-11-20T12:00:30Z",
              "digest": null,
              "discovered_at": "2026-11-20T12:00:30Z",
              "done": 0,
              "error": null,
              "failed": 0,
              "finished_at": null,
              "found": 2,
              "id": "<id>",
              "job": "wallet",
              "manual": 0,
              "over_cap": 0,
              "queued": 2,
              "started_by": "test",
              "state": "running",
              "summary": "found 2, attempted 0 of 2, skipped 0",
              "waiting": 0
            }
          ]
        }"#]]
    .assert_eq(&runs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items() {
    let world = World::new().await;
    world.discover(&["a/b", "c"]).await;
    let items = world.json(get("/api/v1/items?job=wallet&state=scheduled")).await;
    assert_eq!(items.matches("\"key\"").count(), 2, "{items}");
    let item = world.json(get("/api/v1/items/wallet/a%2Fb")).await;
    expect![[r#"
        {
          "attempts": [],
          "item": {
            "attempts": 0,
            "crashes": 0,
            "created_at": "2026-11-20T12:00:30Z",
            "due_at": "2026-11-20T12:00:30Z",
            "error": null,
            "first_attempt_at": null,
            "host": null,
            "id": "<id>",
            "job": "wallet",
            "key": "a/b",
            "last_attempt_at": null,
            "note": null,
            "payload": "{}",
            "resolved_at": null,
            "resolved_by": null,
            "run_id": "<id>",
            "shown": "pending",
            "state": "scheduled",
            "updated_at": "2026-11-20T12:00:30Z",
            "version": 1
          }
        }"#]]
    .assert_eq(&item);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_empty_lists() {
    let world = World::new().await;
    let hosts = world.json(get("/api/v1/hosts")).await;
    expect![[r#"
        {
          "hosts": [
            {
              "heartbeat_at": "2026-11-20T12:00:30Z",
              "id": "<id>",
              "incarnation": "<id>",
              "name": "box",
              "started_at": "2026-11-20T12:00:30Z",
              "stopped_at": null,
              "this": true
            }
          ]
        }"#]]
    .assert_eq(&hosts);
    let outbox = world.json(get("/api/v1/outbox?topic=tidemill.alert")).await;
    expect![[r#"
        {
          "events": []
        }"#]]
    .assert_eq(&outbox);
    let nothing = world.json(get("/api/v1/runs?job=wallet")).await;
    expect![[r#"
        {
          "runs": []
        }"#]]
    .assert_eq(&nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manual_start() {
    let world = World::new().await;
    let started = world.ask(post("/api/v1/jobs/wallet", "")).await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.body);
    let location = started.headers["location"].to_str().unwrap().to_owned();
    let run = world.json(get(&location)).await;
    assert!(run.contains("\"started_by\": \"local\""), "{run}");
    let unknown = world.json(post("/api/v1/jobs/nobody", "")).await;
    expect![[r#"
        {
          "code": "not-found",
          "detail": "there is no job \"nobody\"",
          "status": 404,
          "title": "Not Found",
          "type": "urn:tidemill:problem:not-found"
        }"#]]
    .assert_eq(&unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions() {
    let world = World::new().await;
    world.discover(&["k"]).await;
    world.a_moment_later();
    let resolved = world.ask(post("/api/v1/items/wallet/k/resolve", "{\"notes\": \"paid by hand\"}")).await;
    assert_eq!(resolved.status, StatusCode::OK, "{}", resolved.body);
    assert!(resolved.body.contains("paid by hand"));
    world.a_moment_later();
    let again = world.json(post("/api/v1/items/wallet/k/resolve", "")).await;
    expect![[r#"
        {
          "code": "conflict",
          "detail": "an item that is resolved cannot be resolved_manually",
          "state": "resolved",
          "status": 409,
          "title": "Conflict",
          "type": "urn:tidemill:problem:conflict"
        }"#]]
    .assert_eq(&again);
    let retried = world.ask(post("/api/v1/items/wallet/k/retry", "{}")).await;
    assert_eq!(retried.status, StatusCode::OK, "{}", retried.body);
    let missing = world.json(post("/api/v1/items/wallet/none/abandon", "")).await;
    expect![[r#"
        {
          "code": "not-found",
          "detail": "there is no item \"none\" of job \"wallet\"",
          "status": 404,
          "title": "Not Found",
          "type": "urn:tidemill:problem:not-found"
        }"#]]
    .assert_eq(&missing);
    let audit = world.json(get("/api/v1/audit?limit=2")).await;
    expect![[r#"
        {
          "audit": [
            {
              "action": "retried_manually",
              "actor": "local",
              "at": "2026-11-20T12:00:30.2Z",
              "detail": "resolved -> scheduled; no notes",
              "job": "wallet",
              "subject": "k"
            },
            {
              "action": "resolved_manually",
              "actor": "local",
              "at": "2026-11-20T12:00:30.1Z",
              "detail": "scheduled -> resolved; paid by hand",
              "job": "wallet",
              "subject": "k"
            }
          ]
        }"#]]
    .assert_eq(&audit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_store_is_reported_and_is_no_crash() {
    let world = World::new().await;
    let ready = world.ask(get("/readyz")).await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    world.state.store.close().await;
    let runs = world.ask(get("/api/v1/runs")).await;
    assert_eq!(runs.headers["retry-after"], "5");
    expect![[r#"{"type":"urn:tidemill:problem:store-unavailable","title":"Service Unavailable","status":503,"code":"store-unavailable","detail":"the database is not available: attempted to acquire a connection on a closed pool"}"#]].assert_eq(&runs.body);
    let ready = world.ask(get("/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    expect![[r#"{"status":"not-ready","reason":"the database is not available: attempted to acquire a connection on a closed pool","problems":[{"name":"store-unavailable","ready":false,"text":"the database is not available: attempted to acquire a connection on a closed pool"}]}"#]].assert_eq(&ready.body);
    let alive = world.ask(get("/healthz")).await;
    assert_eq!(alive.status, StatusCode::OK);
    let page = world.ask(get("/")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("host not ready"), "{}", page.body);
    let doctor = world.ask(get("/api/v1/doctor")).await;
    assert_eq!(doctor.status, StatusCode::OK);
    assert!(doctor.body.contains(r#""name":"store-unavailable""#), "{}", doctor.body);
}

/// The page, `/readyz` and `doctor` name the same problem.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_task_is_reported_everywhere() {
    let world = World::new().await;
    let (tasks, stop) = (world.state.store.tasks().clone(), world.state.stopping.clone());
    let changed = tasks.changed();
    let panics = || async { std::panic::resume_unwind(Box::new("on purpose")) };
    let supervised = tokio::spawn(tasks.clone().supervise("example", stop, panics));
    changed.await;
    let why = "the task \"example\" is down and is started again: it panicked: on purpose";
    let ready = world.ask(get("/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((&ready["reason"], &ready["problems"][0]["name"]), (&why.into(), &"task-down".into()));
    let doctor = world.ask(get("/api/v1/doctor")).await;
    let doctor: serde_json::Value = serde_json::from_str(&doctor.body).unwrap();
    assert_eq!(doctor["health"]["reason"], why);
    let page = world.ask(get("/page/overview")).await;
    assert!(page.body.contains("host not ready") && page.body.contains("on purpose"), "{}", page.body);
    supervised.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_ends_when_the_host_stops() {
    let world = World::new().await;
    let stopping = world.state.stopping.clone();
    let stream = world.ask(get("/api/v1/events"));
    stopping.cancel();
    let answer = stream.await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_sends_engine_events() {
    let world = World::new().await;
    let mut stream = world.open(get("/api/v1/events")).await;
    let started = world.ask(post("/api/v1/jobs/wallet", "")).await;
    assert_eq!(started.status, StatusCode::CREATED);
    let reported = stream.next().await.unwrap() + &stream.next().await.unwrap();
    expect![[r#"
        event: run-started
        data: {"kind":"run-started","job":"wallet","run_id":"<id>"}

        event: audited
        data: {"kind":"audited","actor":"local","action":"triggered","job":"wallet","subject":"<id>"}

    "#]]
    .assert_eq(&world.mask(&reported));
    world.state.stopping.cancel();
    assert_eq!(stream.next().await, None);
}
