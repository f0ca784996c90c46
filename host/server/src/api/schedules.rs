//! Schedules: the results of due instants, pauses, and a preview of a cron text.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::JobName;
use domain::schedule::cron::OddNights;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::jobs::TickView;

use super::authentication::Actor;
use super::extract::{Body, Most, Nothing, Params, Segments};
use super::filters::known;
use super::waits::all_paused;
use crate::config::schedule::{FOLD, GAP, PREVIEW_MAX, cron, word};
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs/{name}/ticks", get(ticks))
        .route("/api/v1/jobs/{name}/pause", post(pause))
        .route("/api/v1/jobs/{name}/resume", post(resume))
        .route("/api/v1/pause", post(pause_all))
        .route("/api/v1/resume", post(resume_all))
        .route("/api/v1/schedule/preview", get(preview))
}

async fn ticks(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    Params(most): Params<Most>,
) -> Result<Json<Ticks>, ApiError> {
    let job = known(&state, &name)?;
    let ticks = state.store.jobs().ticks(job.name.as_str(), most.limit()).await?;
    Ok(Json(Ticks { ticks: ticks.into_iter().map(Tick::from).collect() }))
}

async fn pause(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Paused>, ApiError> {
    set(&state, Some(&known(&state, &name)?.name), true, &actor).await
}

async fn resume(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Paused>, ApiError> {
    set(&state, Some(&known(&state, &name)?.name), false, &actor).await
}

async fn pause_all(
    State(state): State<AppState>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Paused>, ApiError> {
    set(&state, None, true, &actor).await
}

async fn resume_all(
    State(state): State<AppState>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Paused>, ApiError> {
    set(&state, None, false, &actor).await
}

async fn set(
    state: &AppState,
    job: Option<&JobName>,
    paused: bool,
    actor: &Actor,
) -> Result<Json<Paused>, ApiError> {
    let now = state.clock.now();
    let changed = match (paused, job) {
        (true, job) => state.store.jobs().pause(job, &actor.0, now).await?,
        (false, Some(job)) => resume_one(state, job, actor).await?,
        (false, None) => state.store.jobs().resume(None, &actor.0, now).await?,
    };
    let pauses = state.store.jobs().pauses().await?;
    let still_paused: Vec<String> = match (paused, job) {
        (false, None) => pauses.jobs().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let detail = match (paused, job, pauses.of_all()) {
        (true, Some(_), Some(all)) => Some(all_paused(all)),
        _ if still_paused.is_empty() => None,
        _ => Some(format!("still paused individually: {}", still_paused.join(", "))),
    };
    Ok(Json(Paused { paused, changed, still_paused, detail }))
}

/// Refused while all jobs are paused, because the job would remain paused.
async fn resume_one(state: &AppState, job: &JobName, actor: &Actor) -> Result<bool, ApiError> {
    if let Some(all) = state.store.jobs().pauses().await?.of_all() {
        let detail = format!("job {job} remains paused, and nothing has changed: {}", all_paused(all));
        return Err(ApiError::new(StatusCode::CONFLICT, "all-paused", detail).with_state("paused"));
    }
    Ok(state.store.jobs().resume(Some(job), &actor.0, state.clock.now()).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    cron: String,
    tz: Option<String>,
    count: Option<usize>,
    dst_gap: Option<String>,
    dst_fold: Option<String>,
}

async fn preview(
    State(state): State<AppState>,
    Params(text): Params<Text>,
) -> Result<Json<Preview>, ApiError> {
    let nights = OddNights {
        gap: given("dst_gap", text.dst_gap.as_deref(), &GAP)?,
        fold: given("dst_fold", text.dst_fold.as_deref(), &FOLD)?,
    };
    let now = state.clock.now();
    let schedule = cron(&text.cron, text.tz.as_deref().unwrap_or("UTC"), nights, now);
    let schedule = schedule.map_err(ApiError::bad_query)?;
    let count = text.count.unwrap_or(5).clamp(1, PREVIEW_MAX as usize);
    let instants = schedule.instants_after(now).take(count).collect();
    Ok(Json(Preview { instants, schedule: schedule.to_string() }))
}

fn given<T: Copy>(key: &str, text: Option<&str>, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
    let value = text.map(|text| word(text, words)).transpose();
    value.map_err(|why| ApiError::bad_query(format!("{key}: {why}")))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paused {
    pub paused: bool,
    /// `false` means that the state was the same before.
    pub changed: bool,
    /// After all jobs were resumed: jobs that remain paused because they have their own pause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_paused: Vec<String>,
    /// Further information for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticks {
    pub ticks: Vec<Tick>,
}

/// A due instant and its result: `ran`, `buffered`, `overlap`, `coalesced`, `missed`, `late` or `paused`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tick {
    pub at: Timestamp,
    pub fate: String,
    pub run_id: Option<String>,
}

impl From<TickView> for Tick {
    fn from(tick: TickView) -> Tick {
        Tick { at: tick.at, fate: tick.fate, run_id: tick.run_id.map(|run| run.to_string()) }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preview {
    pub schedule: String,
    pub instants: Vec<Timestamp>,
}
