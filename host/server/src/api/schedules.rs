//! Schedules: what became of due instants, pauses, and what a cron text would do.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::cron::OddNights;
use domain::id::JobName;
use domain::schedule::Schedule;
use serde::Deserialize;

use super::AppState;
use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Params, Segments, limit};
use super::jobs::known;
use super::types::{Nothing, Paused, Preview, Tick, Ticks};
use crate::config::schedule::{FOLD, GAP, words};

const COUNT_MAX: usize = 1_000;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs/{name}/ticks", get(ticks))
        .route("/api/v1/jobs/{name}/pause", post(pause))
        .route("/api/v1/jobs/{name}/resume", post(resume))
        .route("/api/v1/pause", post(pause_all))
        .route("/api/v1/resume", post(resume_all))
        .route("/api/v1/schedule/preview", get(preview))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Most {
    limit: Option<u32>,
}

async fn ticks(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    Params(most): Params<Most>,
) -> Result<Json<Ticks>, ApiError> {
    let job = known(&state, &name)?;
    let ticks = state.store.ticks(job.name.as_str(), limit(most.limit)).await?;
    let view = |tick: store::jobs::TickView| Tick {
        at: tick.at,
        fate: tick.fate,
        run_id: tick.run_id.map(|run| run.to_string()),
    };
    Ok(Json(Ticks { ticks: ticks.into_iter().map(view).collect() }))
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
    let changed = match paused {
        true => state.store.pause(job, &actor.0, now).await?,
        false => state.store.resume(job, &actor.0, now).await?,
    };
    Ok(Json(Paused { paused, changed }))
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
        gap: text.dst_gap.as_deref().map(|word| one_of("dst_gap", word, &GAP)).transpose()?,
        fold: text.dst_fold.as_deref().map(|word| one_of("dst_fold", word, &FOLD)).transpose()?,
    };
    let now = state.clock.now();
    let schedule = Schedule::cron(&text.cron, text.tz.as_deref().unwrap_or("UTC"), nights, now);
    let schedule = schedule.map_err(|error| {
        let (what, remedy) = words(&error);
        ApiError::bad_query(format!("{what}; {remedy}"))
    })?;
    let count = text.count.unwrap_or(5).clamp(1, COUNT_MAX);
    let next = std::iter::successors(schedule.next_after(now), |at| schedule.next_after(*at));
    Ok(Json(Preview { instants: next.take(count).collect(), schedule: schedule.to_string() }))
}

fn one_of<T: Copy>(key: &str, word: &str, words: &[(&str, T)]) -> Result<T, ApiError> {
    let known = || words.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(" or ");
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| ApiError::bad_query(format!("{key}: use {}", known())))
}
