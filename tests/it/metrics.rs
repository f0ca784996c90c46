//! The metrics of jobs and of the host at `/metrics`.

use test_support::on_both;

use crate::support::database::Kind;
use crate::support::http;
use crate::support::jobs::host_of;

on_both! { f8_metrics_have_their_names }

async fn f8_metrics_have_their_names(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["finalize-retry", "finalize-recover"]).await;
    let began = host.clock.now().as_millisecond() - 3_600_000;
    databases
        .business(&format!(
            "INSERT INTO split_order (order_id, account, amount_minor, currency, status, finalize_in_progress,
                finalize_started_at_ms, updated_at_ms) VALUES (1, 'none', 1, 'EUR', 'finalizing', 1, {began}, 1)"
        ))
        .await;
    for _ in 0..2 {
        host.minute().await;
    }
    let answer = http::get(host.app.address, "/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    for line in [
        "# TYPE job_runs_total counter",
        "job_runs_total{job=\"finalize-retry\"} ",
        "# TYPE job_duration_seconds histogram",
        "job_duration_seconds_bucket{job=\"finalize-recover\",le=\"0.1\"} ",
        "job_stuck_detected_total{job=\"finalize-recover\"} ",
        "finalize_retry_attempts_total{job=\"finalize-retry\"} ",
        "tidemill_items{job=\"finalize-retry\",state=\"awaiting\"} 1",
        "tidemill_items{job=\"finalize-retry\",state=\"pending\"} 0",
        "tidemill_task_last_success_timestamp_seconds{task=\"scheduler\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"heartbeat\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"recovery\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"upkeep\"} ",
    ] {
        assert!(answer.body.contains(line), "{line} is not in\n{}", answer.body);
    }
    // Without its table, a discovery fails.
    databases.business("DROP TABLE split_order").await;
    host.minute().await;
    let failed = http::get(host.app.address, "/metrics").await.body;
    assert!(failed.contains("job_failures_total{job=\"finalize-recover\"} "), "{failed}");
}
