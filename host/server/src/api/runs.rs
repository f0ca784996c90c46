//! Runs and their progress.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use domain::id::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::runs::{RunView, results};

use super::extract::{Params, Segments, limit};
use super::filters::check_job;
use super::items::Error;
use crate::http::ApiError;
use crate::state::AppState;

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
    let runs = state.store.runs().list(filter.job.as_deref(), limit(filter.limit)).await?;
    Ok(Json(Runs { runs: runs.into_iter().map(Run::from).collect() }))
}

async fn one(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
) -> Result<Json<RunWithResult>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no run {id:?}"));
    let id: RunId = id.parse().map_err(|_| unknown())?;
    let run = state.store.runs().get(id).await?.ok_or_else(unknown)?;
    let result = state.store.runs().result(id).await?.ok_or_else(unknown)?;
    let failures = state.store.runs().failures(id).await?;
    let failures = failures.into_iter().map(FailedItem::from).collect();
    Ok(Json(RunWithResult { run: run.into(), result: result.into(), failures }))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runs {
    pub runs: Vec<Run>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub id: String,
    pub job: String,
    pub started_by: String,
    pub state: String,
    pub found: u32,
    pub queued: u32,
    pub waiting: u32,
    pub over_cap: u32,
    pub manual: u32,
    pub absent: u32,
    /// Queued items that had their attempt, and those of them whose attempt failed.
    pub done: u32,
    pub failed: u32,
    pub summary: String,
    pub error: Option<Error>,
    pub digest: Option<String>,
    pub created_at: Timestamp,
    pub discovered_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl From<RunView> for Run {
    fn from(run: RunView) -> Run {
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
}

/// A run with its progress, which is its result once no item is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunWithResult {
    #[serde(flatten)]
    pub run: Run,
    pub result: RunResult,
    /// Items that failed permanently, at most 1,000.
    pub failures: Vec<FailedItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// Queued items of the run, and those of them that had their attempt or need none any more: the same as
    /// `queued` and `done` of the run. The two are equal in a finished run.
    pub total: u32,
    pub current: u32,
    /// Resolved items, over all attempts so far.
    pub success: u32,
    /// Items that failed permanently. The remaining items are retried, or were decided without an attempt.
    pub failed: u32,
    /// The item that ended last.
    pub last: Option<EndedItem>,
}

impl From<results::RunResult> for RunResult {
    fn from(result: results::RunResult) -> RunResult {
        RunResult {
            total: result.total,
            current: result.current(),
            success: result.success,
            failed: result.failed,
            last: result.last.map(|last| EndedItem { key: last.key, success: last.success, at: last.at }),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndedItem {
    pub key: String,
    pub success: bool,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedItem {
    pub key: String,
    pub payload: String,
    pub attempts: u32,
    pub error: Error,
}

impl From<domain::alert::FailedItem> for FailedItem {
    fn from(item: domain::alert::FailedItem) -> FailedItem {
        let error = Error { code: item.code, message: item.message };
        FailedItem { key: item.key, payload: item.payload, attempts: item.attempts, error }
    }
}
