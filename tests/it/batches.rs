//! Batch compensation, rules C1 to C8: records are submitted over HTTP and compensated by the real component.

use domain::item::State;
use jiff::SignedDuration;
use serde_json::{Value, json};
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, manual};
use crate::support::http::{self, Answer};
use crate::support::jobs::demo_job;
use crate::support::plugins;

const JOB: &str = "batch-compensation";

on_both!(
    c1_c3_record_has_all_fields,
    c2_a_change_on_an_old_version_is_refused,
    c3_records_are_decided_by_people_and_reasons_add_up,
    c4_processing_takes_pending_and_retrying_records,
    c5_c6_failures_are_counted_and_end_at_the_limit,
    c7_an_unknown_operation_waits_for_a_person,
    c7_a_malformed_payload_stops_its_record_alone,
    c8_counters_by_operation,
    a_batch_that_is_wrong_is_refused_whole,
);

struct Scene {
    databases: Databases,
    host: Host,
}

async fn scene(kind: Kind) -> Scene {
    let databases = Databases::new(kind).await;
    demo::World::create(&databases.business_url).await.unwrap();
    databases
        .business("INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min) VALUES (1, 1, 'Tea', 10, 20)")
        .await;
    plugins::install(&databases.dir.path().join("plugins"), JOB, JOB);
    let host = Host::start("one", &databases, &manual(), vec![demo_job(JOB)]).await;
    Scene { databases, host }
}

fn stock_return(campaign: i64) -> Value {
    let payload = json!({ "campaign_id": campaign, "units": 5 });
    json!({ "operation": "stock-return", "payload": payload, "failure_reason": "timed out at checkout" })
}

impl Scene {
    async fn post(&self, path: &str, body: &Value) -> Answer {
        http::post(self.host.app.address, path, &body.to_string()).await
    }

    async fn add(&mut self, id: &str, items: &[Value]) -> Value {
        let body = json!({ "id": id, "job": JOB, "created_by": "checkout", "items": items });
        let answer = self.post("/api/v1/batches", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }

    async fn batch(&self, id: &str) -> Value {
        let answer = http::get(self.host.app.address, &format!("/api/v1/batches/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    async fn counts(&self, id: &str) -> [u64; 5] {
        let batch = self.batch(id).await;
        ["total", "resolved", "retrying", "manual_required", "pending"]
            .map(|count| batch["batch"][count].as_u64().unwrap())
    }

    async fn decide(&self, key: &str, decision: &str, body: Value) -> Answer {
        self.post(&format!("/api/v1/items/{JOB}/{key}/{decision}"), &body).await
    }

    async fn stock(&self) -> i64 {
        self.databases.business_number("SELECT stock FROM campaign").await
    }

    async fn minutes(&mut self, minutes: i64) {
        self.host.advance(SignedDuration::from_mins(minutes)).await;
    }
}

async fn c1_c3_record_has_all_fields(kind: Kind) {
    let mut scene = scene(kind).await;
    let unknown = json!({ "operation": "refund", "payload": [1], "max_attempts": 7 });
    let added = scene.add("night-7", &[stock_return(1), unknown]).await;
    assert_eq!((&added["total"], &added["created_by"]), (&json!(2), &json!("checkout")));
    scene.host.settle().await;
    let batch = scene.batch("night-7").await;
    let [first, second] = batch["items"].as_array().unwrap().as_slice() else { panic!("{batch}") };
    let place = json!({
        "id": "night-7", "index": 0, "operation": "stock-return", "created_by": "checkout", "max_attempts": null
    });
    assert_eq!(first["in_batch"], place);
    assert_eq!(first["payload"], r#"{"campaign_id":1,"units":5}"#);
    assert_eq!((&first["state"], &first["attempts"]), (&json!("resolved"), &json!(1)));
    assert_eq!((&first["resolved_at"], &first["resolved_by"]), (&first["updated_at"], &Value::Null));
    assert_eq!(second["in_batch"]["index"], 1);
    assert_eq!(second["in_batch"]["max_attempts"], 7);
    assert!(second["version"].as_i64().unwrap() > 1);
    assert_eq!(scene.stock().await, 15);
}

async fn c2_a_change_on_an_old_version_is_refused(kind: Kind) {
    let mut scene = scene(kind).await;
    scene.add("b", &[stock_return(404)]).await;
    scene.host.settle().await;
    let before = scene.batch("b").await["items"][0].clone();
    assert_eq!(before["shown"], "retrying");
    let version = before["version"].as_i64().unwrap();
    scene.minutes(1).await;
    let late = scene.decide("b:0", "resolve", json!({ "version": version })).await;
    assert_eq!((late.status, late.code().as_str()), (409, "conflict"), "{}", late.body);
    let now = scene.batch("b").await["items"][0].clone();
    assert_eq!((&now["state"], now["version"].as_i64() > Some(version)), (&json!("scheduled"), true));
    let in_time =
        scene.decide("b:0", "resolve", json!({ "version": now["version"], "notes": "paid back" })).await;
    assert_eq!(in_time.status, 200, "{}", in_time.body);
    let done = in_time.json();
    assert_eq!(
        (&done["state"], &done["resolved_by"], &done["note"]),
        (&json!("resolved"), &json!("local"), &json!("paid back"))
    );
}

async fn c3_records_are_decided_by_people_and_reasons_add_up(kind: Kind) {
    let mut scene = scene(kind).await;
    scene.add("b", &[stock_return(404), stock_return(404)]).await;
    scene.add("a", &[stock_return(404)]).await;
    scene.host.settle().await;
    let open = http::get(scene.host.app.address, "/api/v1/batches/open-items").await.json();
    let keys: Vec<_> =
        open["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 3, "{open}");

    let manual = scene.decide("b:0", "manual", json!({ "notes": "ask the shop" })).await.json();
    assert_eq!(manual["state"], "manual_required");
    assert_eq!(manual["error"]["message"], "there is no campaign 404; ask the shop");
    let again = scene.decide("b:0", "manual", json!({ "notes": "asked twice" })).await.json();
    assert_eq!(again["error"]["message"], "there is no campaign 404; ask the shop; asked twice");
    let abandoned = scene.decide("b:1", "abandon", json!({ "notes": "too old" })).await.json();
    assert_eq!(abandoned["state"], "abandoned");
    scene.minutes(10).await;
    let batch = scene.batch("b").await;
    assert_eq!((&batch["batch"]["manual_required"], &batch["batch"]["abandoned"]), (&json!(1), &json!(1)));
    assert_eq!(batch["items"][0]["attempts"], 1, "nothing tries it again");
}

async fn c4_processing_takes_pending_and_retrying_records(kind: Kind) {
    let mut scene = scene(kind).await;
    scene
        .add("b", &[stock_return(1), stock_return(2), json!({ "operation": "refund", "payload": {} })])
        .await;
    scene.host.settle().await;
    assert_eq!(scene.counts("b").await, [3, 1, 1, 1, 0]);
    // The missing campaign exists now; the request makes the record due before its backoff ends.
    scene
        .databases
        .business(
            "INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min) VALUES (2, 1, 'Cup', 0, 20)",
        )
        .await;
    let answer = scene.post("/api/v1/batches/b/process", &json!({})).await;
    assert_eq!((answer.status, &answer.json()["made_due"]), (202, &json!(1)), "{}", answer.body);
    scene.host.settle().await;
    assert_eq!(scene.counts("b").await, [3, 2, 0, 1, 0]);
    let again = scene.post("/api/v1/batches/b/process", &json!({})).await;
    assert_eq!(again.json()["made_due"], 0, "what ended stays as it is");
    let unknown = scene.post("/api/v1/batches/other/process", &json!({})).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "not-found"));
}

/// The original's statement did not increment the count, so no record ever reached its limit.
async fn c5_c6_failures_are_counted_and_end_at_the_limit(kind: Kind) {
    let mut scene = scene(kind).await;
    let mut patient = stock_return(404);
    patient["max_attempts"] = json!(4);
    scene.add("b", &[stock_return(404), patient]).await;
    scene.host.settle().await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let items = scene.batch("b").await["items"].clone();
        seen.push([0, 1].map(|n| {
            (items[n]["attempts"].as_u64().unwrap(), items[n]["shown"].as_str().unwrap().to_owned())
        }));
        scene.minutes(1).await;
    }
    let shown: Vec<String> = seen.iter().map(|[a, b]| format!("{} {} | {} {}", a.0, a.1, b.0, b.1)).collect();
    assert_eq!(
        shown,
        [
            "1 retrying | 1 retrying",
            "2 retrying | 2 retrying",
            "3 manual_required | 3 retrying",
            "3 manual_required | 4 manual_required",
            "3 manual_required | 4 manual_required",
        ]
    );
    let item = scene.host.item(JOB, "b:0").await;
    assert_eq!(item.state, State::ManualRequired);
    assert_eq!(item.error.unwrap().message, "there is no campaign 404");
}

async fn c7_an_unknown_operation_waits_for_a_person(kind: Kind) {
    let mut scene = scene(kind).await;
    scene.add("b", &[json!({ "operation": "refund", "payload": {} }), stock_return(1)]).await;
    scene.host.settle().await;
    let items = scene.batch("b").await["items"].clone();
    assert_eq!((&items[0]["state"], &items[0]["attempts"]), (&json!("manual_required"), &json!(1)));
    assert_eq!(items[0]["error"]["code"], "unknown-operation");
    assert_eq!(
        items[0]["error"]["message"],
        "there is no operation \"refund\" here: use ledger-credit or stock-return"
    );
    assert_eq!(items[1]["state"], "resolved");
}

async fn c7_a_malformed_payload_stops_its_record_alone(kind: Kind) {
    let mut scene = scene(kind).await;
    let bad = |payload: Value| json!({ "operation": "stock-return", "payload": payload });
    let records = [
        bad(json!(null)),
        bad(json!("{")),
        bad(json!({ "campaign_id": "1", "units": 5 })),
        bad(json!({ "campaign_id": 1 })),
        bad(json!({ "campaign_id": 1, "units": 5, "note": "more" })),
        bad(json!({ "campaign_id": 1, "units": 99_999_999_999_999_999_999_u128 as f64 })),
        stock_return(1),
    ];
    scene.add("b", &records).await;
    scene.host.settle().await;
    assert_eq!(scene.counts("b").await, [7, 1, 0, 6, 0]);
    let items = scene.batch("b").await["items"].clone();
    for item in &items.as_array().unwrap()[..6] {
        assert_eq!(item["error"]["code"], "bad-payload", "{item}");
    }
    assert_eq!(scene.stock().await, 15);
}

async fn c8_counters_by_operation(kind: Kind) {
    let mut scene = scene(kind).await;
    // The counters are global to the process and other tests run in parallel, so the operation is unique.
    let operation = format!("refund-{kind:?}");
    let credit = json!({ "order_id": 7, "account": "acme", "amount_minor": 100, "currency": "EUR" });
    let records = [
        json!({ "operation": operation, "payload": {} }),
        json!({ "operation": "ledger-credit", "payload": credit }),
        stock_return(404),
    ];
    scene.add("b", &records).await;
    scene.host.settle().await;
    let metrics = http::get(scene.host.app.address, "/metrics").await;
    assert_eq!(metrics.status, 200);
    let line = format!("batch_items_manual_total{{job=\"{JOB}\",operation=\"{operation}\"}} 1");
    assert!(metrics.body.contains(&line), "{line}\n{}", metrics.body);
    for name in ["batch_items_resolved_total", "batch_items_retried_total"] {
        assert!(metrics.body.contains(&format!("{name}{{job=\"{JOB}\",operation=")), "{name}");
    }
    assert_eq!(scene.databases.business_number("SELECT COUNT(*) FROM ledger_outbox").await, 1);
}

async fn a_batch_that_is_wrong_is_refused_whole(kind: Kind) {
    let mut scene = scene(kind).await;
    scene.add("there", &[stock_return(1)]).await;
    let with = |id: Value, items: Value| json!({ "id": id, "job": JOB, "items": items });
    let one = json!([stock_return(1)]);
    let cases = [
        (with(json!("there"), one.clone()), 409, "there is a batch \"there\" already"),
        (with(json!("a b"), one.clone()), 400, "the batch id \"a b\" is not one"),
        (with(json!("x"), json!([])), 400, "a batch has 1 to 10000 items, this one has 0"),
        (json!({ "job": "other", "items": one }), 400, "job: there is no job \"other\""),
        (
            with(json!("x"), json!([{ "operation": "", "payload": 1 }])),
            400,
            "items[0]: the operation \"\" is not one",
        ),
        (with(json!("x"), json!([{ "operation": "a" }])), 400, "missing field `payload`"),
        (with(json!("x"), json!([{ "operation": "a", "payload": 1, "max_attempts": 0 }])), 400, "at least 1"),
        (
            with(json!("x"), json!([{ "operation": "a", "payload": "\u{0}", "failure_reason": "a\u{0}" }])),
            400,
            "zero byte",
        ),
        (
            with(json!("x"), json!([{ "operation": "a", "payload": "x".repeat(300_000) }])),
            400,
            "at most 262144",
        ),
    ];
    for (body, status, says) in cases {
        let answer = scene.post("/api/v1/batches", &body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{says}: {detail}");
    }
    let batches = http::get(scene.host.app.address, "/api/v1/batches").await.json();
    assert_eq!(batches["batches"].as_array().unwrap().len(), 1);
}
