//! Runs and their progress.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use domain::id::RunId;
use serde::Deserialize;
use store::runs::RunView;

use super::AppState;
use super::error::ApiError;
use super::extract::{Params, Segments, limit};
use super::types::{Run, Runs};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/runs", get(list)).route("/api/v1/runs/{id}", get(one))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    job: Option<String>,
    limit: Option<u32>,
}

async fn list(State(state): State<AppState>, Params(filter): Params<Filter>) -> Result<Json<Runs>, ApiError> {
    let runs = state.store.runs(filter.job.as_deref(), limit(filter.limit)).await?;
    Ok(Json(Runs { runs: runs.into_iter().map(view).collect() }))
}

async fn one(State(state): State<AppState>, Segments(id): Segments<String>) -> Result<Json<Run>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no run {id:?}"));
    let run: RunId = id.parse().map_err(|_| unknown())?;
    state.store.run(run).await?.map(view).map(Json).ok_or_else(unknown)
}

fn view(run: RunView) -> Run {
    Run {
        summary: run.summary(),
        id: run.id.to_string(),
        job: run.job.to_string(),
        started_by: run.started_by,
        state: run.state,
        found: run.discovered.found,
        queued: run.discovered.queued,
        waiting: run.discovered.waiting,
        over_cap: run.discovered.over_cap,
        manual: run.discovered.manual,
        absent: run.discovered.absent,
        done: run.done,
        failed: run.failed,
        error: run.error.map(Into::into),
        digest: run.digest,
        created_at: run.created_at,
        discovered_at: run.discovered_at,
        finished_at: run.finished_at,
    }
}
