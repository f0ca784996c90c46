//! For supervisors: alive, and ready to work.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use store::StoreError;

use super::AppState;
use super::types::Health;

/// A database that hangs says nothing: a supervisor wants to know.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive() -> Json<Health> {
    Json(Health { status: "alive".to_owned(), reason: None })
}

async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Health>) {
    if state.stopping.is_cancelled() {
        return not_ready("the host is stopping".to_owned());
    }
    let late = |_| Err(StoreError::Unavailable(format!("no answer within {ANSWER_TIME_MAX:?}")));
    let asked = tokio::time::timeout(ANSWER_TIME_MAX, state.store.ping()).await.unwrap_or_else(late);
    if let Err(error) = asked {
        return not_ready(error.to_string());
    }
    match state.engine.trouble() {
        None => (StatusCode::OK, Json(Health { status: "ready".to_owned(), reason: None })),
        Some(reason) => not_ready(reason),
    }
}

fn not_ready(reason: String) -> (StatusCode, Json<Health>) {
    let health = Health { status: "not-ready".to_owned(), reason: Some(reason) };
    (StatusCode::SERVICE_UNAVAILABLE, Json(health))
}
