//! Jobs: what is configured, whether it can run, and a start by hand.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::JobName;
use domain::job::JobSpec;
use domain::runner::Readiness;
use store::items::ItemCount;

use super::AppState;
use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Segments};
use super::types::{Count, Job, Jobs, Mode, Start, Triggered};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/jobs", get(list)).route("/api/v1/jobs/{name}", post(trigger))
}

async fn list(State(state): State<AppState>) -> Result<Json<Jobs>, ApiError> {
    let counts = state.store.item_counts().await?;
    let jobs = state.engine.jobs();
    Ok(Json(Jobs { jobs: jobs.iter().map(|job| view(&state, job, &counts)).collect() }))
}

fn view(state: &AppState, job: &JobSpec, counts: &[ItemCount]) -> Job {
    let (digest, blocked) = match state.engine.readiness(job) {
        Readiness::Ready(digest) => (Some(digest.to_string()), None),
        Readiness::Blocked(why) => (None, Some(why)),
    };
    let own = counts.iter().filter(|count| count.job == job.name);
    Job {
        name: job.name.to_string(),
        plugin: job.plugin.to_string(),
        schedule: job.schedule.to_string(),
        next_due_at: job.schedule.next_after(state.clock.now()),
        digest,
        blocked,
        concurrency: job.concurrency,
        items_per_run_max: job.items_per_run_max,
        items: own.map(|count| Count { state: count.state.to_owned(), items: count.items }).collect(),
    }
}

async fn trigger(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(Start { mode: None | Some(Mode::All) }): Body<Start>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no job {name:?}"));
    let job: JobName = name.parse().map_err(|_| unknown())?;
    if !state.engine.jobs().iter().any(|known| known.name == job) {
        return Err(unknown());
    }
    let run_id = state.engine.trigger(&job, &actor.0).await?.to_string();
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{run_id}"));
    let mut response = (StatusCode::CREATED, Json(Triggered { run_id })).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
