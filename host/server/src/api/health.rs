//! Probes for supervisors: `/healthz` returns whether the process answers, `/readyz` whether
//! the host can work.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::health::{self, Effect, Problem};
use crate::state::AppState;

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
    Health {
        status: status.to_owned(),
        reason,
        problems: problems.into_iter().map(HostProblem::from).collect(),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<HostProblem>,
}

/// A problem that keeps a host from working as it should.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostProblem {
    /// Stable, for programs.
    pub name: String,
    /// The host works in spite of it.
    pub ready: bool,
    /// For people.
    pub text: String,
}

impl From<Problem> for HostProblem {
    fn from(problem: Problem) -> HostProblem {
        HostProblem {
            name: problem.condition.name().to_owned(),
            ready: problem.condition.effect() != Effect::NotReady,
            text: problem.text,
        }
    }
}
