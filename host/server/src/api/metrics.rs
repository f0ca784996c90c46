//! `/metrics` in Prometheus's text format: the engine's metrics, and gauges of the store's present contents.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::health::{ANSWER_TIME_MAX, Condition, is_ready, problems};
use crate::http::ApiError;
use crate::state::AppState;
use crate::telemetry;

/// Source of the type: the exposition formats in Prometheus's documentation.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upper bounds of the histograms, from a no-op component to the longest wall time.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0];

/// At 10,000 attempts a second, the samples of one period take some MiB.
const COUNT_PERIOD: Duration = Duration::from_secs(5);

/// As displayed: `scheduled` is divided by whether the item was ever attempted.
const STATES: [&str; 7] =
    ["pending", "retrying", "running", "awaiting", "resolved", "manual_required", "abandoned"];

/// One per process, like the recorder.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder: metrics are kept for `/metrics` from now on.
pub fn install() {
    RECORDER.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for name in ["job_duration_seconds", "tidemill_guest_cpu_seconds"] {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS).ok()?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        engine::families::describe();
        Some(handle)
    });
}

/// Runs until the stop. The recorder keeps each sample until it is added to its bucket. This loop does that
/// periodically, in case `/metrics` is not requested.
pub async fn count(stop: CancellationToken) {
    let Some(handle) = RECORDER.get().and_then(Option::as_ref) else { return };
    while tokio::time::timeout(COUNT_PERIOD, stop.cancelled()).await.is_err() {
        handle.run_upkeep();
    }
}

pub fn router() -> Router<AppState> {
    Router::new().route("/metrics", get(show))
}

async fn show(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let none = || ApiError::not_found("metrics are not kept by this process");
    let handle = RECORDER.get().and_then(Option::as_ref).ok_or_else(none)?;
    health(&state).await;
    tasks(&state);
    // While the store is unavailable, the other metrics show their last known values.
    if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIME_MAX, gauges(&state)).await {
        tracing::debug!(?error, "items are not counted");
    }
    handle.run_upkeep();
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], handle.render()))
}

/// Whether the host can work, and the problems that prevent it.
async fn health(state: &AppState) {
    let problems = problems(state).await;
    metrics::gauge!("tidemill_ready").set(if is_ready(&problems) { 1.0 } else { 0.0 });
    for condition in Condition::ALL {
        let holds = problems.iter().filter(|problem| problem.condition == condition).count();
        metrics::gauge!("tidemill_problem", "problem" => condition.name()).set(holds as f64);
    }
}

/// Counters that other modules maintain.
fn tasks(state: &AppState) {
    for task in state.store.tasks().status() {
        metrics::counter!("tidemill_task_panics_total", "task" => task.name).absolute(task.failures);
    }
    metrics::counter!("tidemill_log_lines_dropped_total").absolute(telemetry::dropped());
}

/// Gauges that are read from the store at each request.
async fn gauges(state: &AppState) -> Result<(), ApiError> {
    let counts = state.store.items().counts().await?;
    for job in state.engine.jobs().iter() {
        for shown in STATES {
            // A state without items has to return to 0.
            let own = counts.iter().find(|count| count.job == job.name && count.state == shown);
            let items = own.map_or(0, |count| count.items);
            let labels = [("job", job.name.to_string()), ("state", shown.to_owned())];
            metrics::gauge!("tidemill_items", &labels).set(f64::from(items));
        }
    }
    Ok(())
}
