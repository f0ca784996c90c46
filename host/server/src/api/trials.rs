//! Versions that are handed in: tried on attempts that were, or put to work on all hosts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{post, put};
use axum::{Extension, Json, Router};
use domain::id::PluginName;
use domain::job::JobSpec;
use sandbox::{PluginFile, Trial};
use serde::Deserialize;
use store::audit::Entry;
use store::plugins::KeptFile;

use super::AppState;
use super::actor::Actor;
use super::component::{Component, Turn};
use super::error::ApiError;
use super::extract::{Params, Segments};
use super::jobs::known;
use super::plugins::{named, of};
use super::types::{PluginVersions, Replay};
use crate::replay::{Replayer, summary, version};

/// Attempts of a replay: without `last`, and at most.
const LAST_DEFAULT: u32 = 20;
const LAST_MAX: u32 = 200;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/plugins/{plugin}", put(upload))
        .route("/api/v1/plugins/{plugin}/replay", post(replay))
        .layer(Extension(Turn::new()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    job: String,
    last: Option<u32>,
}

async fn replay(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    Params(which): Params<Which>,
    actor: Actor,
    component: Component,
) -> Result<Json<Replay>, ApiError> {
    let plugin = named(&plugin)?;
    let last = which.last.unwrap_or(LAST_DEFAULT);
    if !(1..=LAST_MAX).contains(&last) {
        return Err(ApiError::bad_query(format!("last: 1 to {LAST_MAX}")));
    }
    let job = known(&state, &which.job)?;
    if job.plugin != plugin {
        let detail = format!("job {} runs plugin {}, not {plugin}", job.name, job.plugin);
        return Err(ApiError::new(StatusCode::CONFLICT, "other-plugin", detail));
    }
    let Some(now) = state.sandbox.running(&plugin) else {
        let detail = format!("no version of plugin {plugin} runs here now, to be compared with");
        return Err(ApiError::new(StatusCode::CONFLICT, "nothing-runs", detail));
    };
    let Component { bytes, signature, turn: _until_the_answer } = component;
    let file = PluginFile::of(plugin.clone(), bytes, signature);
    let new = tried(&state, file, std::slice::from_ref(&job)).await?;

    let detail = format!("{} against {}, the last {last}", new.digest(), now.digest());
    let (name, subject) = (Some(job.name.as_str()), plugin.as_str());
    let entry = Entry { actor: &actor.0, action: "plugin_replayed", job: name, subject, detail: &detail };
    state.store.audit_add(&entry, state.clock.now()).await?;
    let recorded = state.store.attempts_to_replay(&job.name, last).await?;
    let AppState { store, sandbox, clock, .. } = state;
    let replayer = Replayer { store, sandbox, clock, job, now, new };
    let (attempts, cut_short) = replayer.run(recorded).await;
    Ok(Json(Replay {
        plugin: plugin.to_string(),
        job: replayer.job.name.to_string(),
        now: version(&replayer.now),
        new: version(&replayer.new),
        summary: summary(&attempts),
        attempts,
        cut_short,
    }))
}

/// Kept, noted and pinned in one transaction: all hosts find it as they find what was pinned by hand.
async fn upload(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    component: Component,
) -> Result<Json<PluginVersions>, ApiError> {
    let plugin: PluginName = plugin.parse().map_err(|e| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-name", format!("{plugin:?} cannot name a plugin: {e}"))
    })?;
    let Component { bytes, signature, turn: _until_the_answer } = component;
    let kept = KeptFile { bytes: bytes.clone(), signature: signature.clone() };
    let new = tried(&state, PluginFile::of(plugin.clone(), bytes, signature), &state.engine.jobs()).await?;
    let now = state.clock.now();
    state.store.upload_plugin(&new.noted(now), kept, state.engine.host_id(), &actor.0).await?;
    Ok(Json(of(&state, &plugin).await?))
}

async fn tried(state: &AppState, file: PluginFile, jobs: &[Arc<JobSpec>]) -> Result<Trial, ApiError> {
    let plugin = file.plugin.clone();
    state.sandbox.try_out(file, jobs).await.map_err(|why| {
        let detail = format!("this version of plugin {plugin} may not run: {why}; nothing has changed");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin-refused", detail)
    })
}
