//! Alerts: of jobs that do not run, and their acknowledgement.

use domain::alert::{Alert, Severity};
use jiff::SignedDuration;
use serde_json::json;
use test_support::on_both;

use crate::support::database::Kind;
use crate::support::host::Host;
use crate::support::http;
use crate::support::jobs::host_of;

on_both! {
    f6_a_job_that_misses_its_heartbeat_alerts,
    s9_alerts_are_shown_acknowledged_and_removed,
}

async fn f6_a_job_that_misses_its_heartbeat_alerts(kind: Kind) {
    let (_databases, mut host) = host_of(kind, &["lease-recovery"]).await;
    host.advance(SignedDuration::from_mins(5)).await;
    // The plugin is removed: from now on the job cannot run.
    std::fs::remove_file(host.plugins.join("lease-recovery.wasm")).unwrap();
    let job = host.app.engine.jobs()[0].clone();
    let blocked =
        move |host: &Host| matches!(host.app.engine.readiness(&job), domain::runner::Readiness::Blocked(_));
    host.until("the plugin is gone", blocked).await;
    let mut minutes = 0;
    let alert = loop {
        if let Some(alert) = host.app.store.alerts().list(true, 9).await.unwrap().pop() {
            break alert;
        }
        assert!(minutes < 60, "no alert after {minutes} minutes");
        host.clock.advance(SignedDuration::from_mins(1));
        minutes += 1;
        for _ in 0..3 {
            host.something().await;
        }
    };
    assert!(minutes > 10, "it was due each 5 minutes, and alerted after {minutes}");
    assert_eq!((alert.alert.kind.as_str(), alert.alert.severity), ("JOB_HEARTBEAT_MISSED", Severity::Error));
    assert!(
        alert
            .alert
            .message
            .starts_with("job lease-recovery (every 5m) has not run since 2026-03-02T10:05:00Z: "),
        "{}",
        alert.alert.message
    );
}

async fn s9_alerts_are_shown_acknowledged_and_removed(kind: Kind) {
    let (_databases, mut host) = host_of(kind, &["hello"]).await;
    let hello = "hello".parse().unwrap();
    let alert = Alert {
        kind: "STOCK_REPLENISH_FAILED".to_owned(),
        key: "run 1".to_owned(),
        severity: Severity::Error,
        message: "2 campaigns <b>failed</b>".to_owned(),
        metadata: "no JSON".to_owned(),
    };
    host.app.store.alerts().raise(&hello, &alert, host.clock.now()).await.unwrap();
    let page = http::get(host.app.address, "/").await.body;
    assert!(
        page.contains("STOCK_REPLENISH_FAILED") && page.contains("2 campaigns &#60;b&#62;failed"),
        "{page}"
    );
    let open = http::get(host.app.address, "/api/v1/alerts?open=true").await.json();
    let [reported] = open["alerts"].as_array().unwrap().as_slice() else { panic!("{open}") };
    assert_eq!((&reported["times"], &reported["metadata"]), (&json!(1), &json!("no JSON")));

    let acknowledge = format!("/api/v1/alerts/{}/acknowledge", reported["id"].as_str().unwrap());
    let done = http::post(host.app.address, &acknowledge, "{}").await;
    assert_eq!((done.status, &done.json()["acknowledged_by"]), (200, &json!("local")), "{}", done.body);
    let again = http::post(host.app.address, &acknowledge, "{}").await;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    let unknown = http::post(host.app.address, "/api/v1/alerts/7/acknowledge", "{}").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "not-found"));
    let open = http::get(host.app.address, "/api/v1/alerts?open=true").await.json();
    assert_eq!(open["alerts"], json!([]));

    // Days that pass in a moment make jobs late, which raises an alert too.
    let all = async |host: &Host| {
        let alerts = host.app.store.alerts().list(false, 9).await.unwrap();
        alerts.iter().filter(|found| found.alert.kind == alert.kind).count()
    };
    host.advance(SignedDuration::from_hours(29 * 24)).await;
    assert_eq!(all(&host).await, 1);
    let mut days = 29;
    while all(&host).await > 0 {
        host.advance(SignedDuration::from_hours(24)).await;
        days += 1;
        assert!(days < 100, "it is still there");
    }
}
