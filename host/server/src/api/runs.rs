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
use super::filters::check_job;
use super::types::{EndedItem, Error, FailedItem, Run, RunResult, RunWithResult, Runs};

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
    if let Some(job) = &filter.job {
        check_job(&state, job).await?;
    }
    let runs = state.store.runs(filter.job.as_deref(), limit(filter.limit)).await?;
    Ok(Json(Runs { runs: runs.into_iter().map(view).collect() }))
}

async fn one(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
) -> Result<Json<RunWithResult>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no run {id:?}"));
    let id: RunId = id.parse().map_err(|_| unknown())?;
    let run = state.store.run(id).await?.ok_or_else(unknown)?;
    let result = state.store.run_result(id).await?.ok_or_else(unknown)?;
    let failures = state.store.run_failures(id).await?;
    let failures = failures.into_iter().map(failure).collect();
    Ok(Json(RunWithResult { run: view(run), result: result_view(result), failures }))
}

fn result_view(result: store::runs::results::RunResult) -> RunResult {
    RunResult {
        total: result.total,
        current: result.current(),
        success: result.success,
        failed: result.failed,
        last: result.last.map(|last| EndedItem { key: last.key, success: last.success, at: last.at }),
    }
}

fn failure(item: domain::alert::FailedItem) -> FailedItem {
    let error = Error { code: item.code, message: item.message };
    FailedItem { key: item.key, payload: item.payload, attempts: item.attempts, error }
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
