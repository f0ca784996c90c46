//! Probes for supervisors: `/healthz` returns whether the process answers, `/readyz` whether
//! the host can work.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::AppState;
use super::types::{Health, HostProblem};
use crate::health::{self, Effect, Problem};

pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive() -> Json<Health> {
    Json(Health { status: "alive".to_owned(), reason: None, problems: Vec::new() })
}

async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Health>) {
    let health = health_of(&state).await;
    let status = if health.status == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

const READY: &str = "ready";

/// The host's health in the form of the API.
pub async fn health_of(state: &AppState) -> Health {
    let problems = health::problems(state).await;
    let status = if health::is_ready(&problems) { READY } else { "not-ready" };
    let reason = health::summary(&problems);
    Health { status: status.to_owned(), reason, problems: problems.into_iter().map(shown).collect() }
}

fn shown(problem: Problem) -> HostProblem {
    HostProblem {
        name: problem.condition.name().to_owned(),
        ready: problem.condition.effect() != Effect::NotReady,
        text: problem.text,
    }
}
