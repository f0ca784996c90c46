//! Manual recovery, and self-checks of every job.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::job::JobSpec;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::StoreError;

use super::authentication::Actor;
use super::extract::{Body, Nothing};
use super::health::{Health, health_of};
use crate::config::text::show_bytes;
use crate::health::ANSWER_TIME_MAX;
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/recover", post(recover)).route("/api/v1/doctor", get(doctor))
}

/// Puts back all work whose lease has expired now, instead of in a few seconds.
async fn recover(
    State(state): State<AppState>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Recovered>, ApiError> {
    let items = state.engine.recover(&actor.0).await?;
    let items = items.into_iter().map(|item| RecoveredItem {
        job: item.job.to_string(),
        key: item.key,
        state: item.state.to_string(),
        crashes: item.crashes,
    });
    Ok(Json(Recovered { items: items.collect() }))
}

/// Answers while the store is unavailable, too, and then reports that.
async fn doctor(State(state): State<AppState>) -> Json<Doctor> {
    let health = health_of(&state).await;
    let now = state.clock.now();
    let mut jobs = Vec::new();
    for job in state.engine.jobs().iter() {
        let asked = tokio::time::timeout(ANSWER_TIME_MAX, state.store.jobs().heartbeat(&job.name));
        // One late answer is enough to stop.
        let Ok(last) = asked.await else { break };
        jobs.push(self_check(job, last, now));
    }
    let (bytes, from) = state.engine.memory();
    let memory = format!("{}, from {}", show_bytes(bytes as u64), from.unwrap_or("engine.memory"));
    Json(Doctor { health, clock: clock(&state).await, jobs, memory })
}

async fn clock(state: &AppState) -> Answered {
    let asked = tokio::time::timeout(ANSWER_TIME_MAX, clock_trouble(state)).await;
    match asked {
        Ok(Ok(None)) => Answered { yes: true, how: "no clock was ahead".to_owned() },
        Ok(Ok(Some(how))) => Answered { yes: false, how },
        Ok(Err(error)) => Answered { yes: false, how: format!("unknown: {error}") },
        Err(_) => Answered { yes: false, how: "unknown: the store gave no answer in time".to_owned() },
    }
}

/// The evidence that a clock was ahead, if there is any.
async fn clock_trouble(state: &AppState) -> Result<Option<String>, StoreError> {
    if let Some(ahead) = state.store.hosts().clock_ahead(|| state.clock.now()).await? {
        return Ok(Some(format!("the store has times {ahead:#} in the future: a clock was ahead")));
    }
    Ok(state.store.hosts().clock_alert().await?.map(|open| open.alert.message))
}

fn self_check(job: &JobSpec, last: Result<Timestamp, StoreError>, now: Timestamp) -> SelfCheck {
    let yes = |how: String| Answered { yes: true, how };
    let due_twice = |last| job.schedule.next_after(last).and_then(|first| job.schedule.next_after(first));
    let heartbeat = match last.map(|last| (last, due_twice(last))) {
        Err(error) => Answered { yes: false, how: format!("unknown: {error}") },
        Ok((_, None)) => Answered { yes: false, how: "it has no schedule that could be missed".to_owned() },
        Ok((last, Some(_))) if last > now => Answered {
            yes: false,
            how: format!("its last run is recorded at {last:.0}, which is in the future"),
        },
        Ok((last, Some(due))) if due < now => {
            Answered { yes: false, how: format!("it has not run since {last:.0}") }
        }
        Ok((last, Some(_))) => {
            yes(format!("it ran at {last:.0}; two due instants without a run raise an alert"))
        }
    };
    let retries = match job.retry.max_attempts {
        Some(max) => format!("{max} attempts, then a person decides"),
        None => "declared unbounded".to_owned(),
    };
    SelfCheck {
        job: job.name.to_string(),
        lock: yes("one run for each due instant and one lease for each item, across all hosts".to_owned()),
        heartbeat,
        bounded_retries: yes(retries),
        metrics: yes(format!("job_runs_total{{job=\"{}\"}} and others at /metrics", job.name)),
        audited_recovery: yes("each item that is put back has an audit record".to_owned()),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovered {
    pub items: Vec<RecoveredItem>,
}

/// An item whose lease expired, and its state after the recovery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecoveredItem {
    pub job: String,
    pub key: String,
    pub state: String,
    pub crashes: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Doctor {
    pub health: Health,
    /// Whether no clock was ahead: the store has no times in the future, and no alert about them is open.
    pub clock: Answered,
    pub jobs: Vec<SelfCheck>,
    /// The memory that the attempts of the answering host may use together, and the source of that limit.
    #[serde(default)]
    pub memory: String,
}

/// The checks of one job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelfCheck {
    pub job: String,
    pub lock: Answered,
    pub heartbeat: Answered,
    pub bounded_retries: Answered,
    pub metrics: Answered,
    pub audited_recovery: Answered,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered {
    pub yes: bool,
    pub how: String,
}
