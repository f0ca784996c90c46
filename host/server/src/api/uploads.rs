//! Submitted versions: replayed on past attempts, or stored for all hosts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use domain::id::{Digest, PluginName};
use domain::job::JobSpec;
use domain::release::{Decision, Stage};
use sandbox::{PluginFile, Trial};
use serde::{Deserialize, Serialize};
use store::answers::Keyed;
use store::audit::Entry;
use store::plugins::KeptFile;
use store::plugins::uploads::Uploaded as UploadResult;

use super::authentication::Actor;
use super::component::Component;
use super::extract::{Params, Segments};
use super::filters::known;
use super::idempotency::{carry_out, key_of, sha256};
use super::versions::{PluginVersions, named, of};
use crate::http::ApiError;
use crate::replay::report::Replay;
use crate::replay::{Replayer, summary, version};
use crate::state::AppState;

/// Attempts of a replay: the default without `last`, and the maximum.
const LAST_DEFAULT: u32 = 20;
const LAST_MAX: u32 = 200;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/plugins/{plugin}", put(upload))
        .route("/api/v1/plugins/{plugin}/replay", post(replay))
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
        let detail =
            format!("no version of plugin {plugin} runs on this host, so there is nothing to compare with");
        return Err(ApiError::new(StatusCode::CONFLICT, "nothing-runs", detail));
    };
    let Component { bytes, signature, permit: _until_the_answer } = component;
    let file = PluginFile::of(plugin.clone(), bytes, signature);
    let new = tried(&state, file, std::slice::from_ref(&job)).await?;

    let detail = format!("{} against {}, the last {last}", new.digest(), now.digest());
    let (name, subject) = (Some(job.name.as_str()), plugin.as_str());
    let entry = Entry { actor: &actor.0, action: "plugin_replayed", job: name, subject, detail: &detail };
    state.store.audit().add(&entry, state.clock.now()).await?;
    let recorded = state.store.attempts().to_replay(&job.name, last).await?;
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

/// With a key, an upload can be sent again like any POST. Its body has its own limit, so the
/// key is handled here.
async fn upload(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    headers: HeaderMap,
    component: Component,
) -> Result<Response, ApiError> {
    let Some(key) = key_of(&headers)? else {
        return put_version(&state, &plugin, &actor, component).await.map(Json::into_response);
    };
    let signature = component.signature.clone().unwrap_or_default();
    let sha256 = sha256(&["PUT", "plugin", &plugin, &signature], &component.bytes);
    let work = async { put_version(&state, &plugin, &actor, component).await.into_response() };
    let keyed = Keyed { actor: &actor.0, key: &key, sha256: &sha256 };
    Ok(carry_out(&state, keyed, work).await)
}

/// Stores the version and treats it as a new file in a plugins folder: it goes to a trial, waits
/// for approval, or runs.
async fn put_version(
    state: &AppState,
    plugin: &str,
    actor: &Actor,
    component: Component,
) -> Result<Json<Uploaded>, ApiError> {
    let plugin: PluginName = plugin.parse().map_err(|e| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-name", format!("{plugin:?} cannot name a plugin: {e}"))
    })?;
    let Component { bytes, signature, permit: _until_the_answer } = component;
    let kept = KeptFile { bytes: bytes.clone(), signature: signature.clone() };
    let new = tried(state, PluginFile::of(plugin.clone(), bytes, signature), &state.engine.jobs()).await?;
    let (now, host, rules) = (state.clock.now(), state.engine.host_id(), &state.versions.rules);
    let uploaded = state.store.plugins().upload(&new.noted(now), kept, host, rules, &actor.0, now).await?;
    let (outcome, detail) = became(&plugin, new.digest(), uploaded)?;
    let versions = of(state, &plugin).await?;
    Ok(Json(Uploaded { outcome: outcome.to_owned(), detail, versions }))
}

/// The result of an upload: a word for programs, and a sentence for people.
fn became(
    plugin: &PluginName,
    digest: Digest,
    uploaded: UploadResult,
) -> Result<(&'static str, String), ApiError> {
    let (full, digest) = (digest, digest.short());
    Ok(match uploaded {
        UploadResult::Unchanged => {
            ("unchanged", format!("version {digest} of plugin {plugin} is stable already"))
        }
        UploadResult::Pinned(pinned) if pinned == full => {
            ("unchanged", format!("plugin {plugin} is pinned to version {digest} already"))
        }
        UploadResult::Pinned(pinned) => {
            let remedy = "pin it, or unpin the plugin and promote it";
            let stays = format!("plugin {plugin} stays pinned to {}", pinned.short());
            ("kept", format!("version {digest} is kept and does not run, because {stays}: {remedy}"))
        }
        UploadResult::Decided(Decision::Stable | Decision::Replaced) => {
            ("runs", format!("version {digest} of plugin {plugin} takes over on all hosts now"))
        }
        UploadResult::Decided(Decision::On(Stage::Canary)) => {
            let remedy = "`tidemill plugins promote` ends the trial";
            ("canary", format!("version {digest} of plugin {plugin} is on trial; {remedy}"))
        }
        UploadResult::Decided(Decision::On(Stage::Waiting)) => {
            let why = "it asks for more than the stable one; `tidemill plugins show` lists that";
            ("waiting", format!("version {digest} of plugin {plugin} waits for approval: {why}"))
        }
        UploadResult::Decided(Decision::Quarantined(why)) => {
            let remedy = "approve it first; nothing has changed";
            let detail = format!("version {digest} of plugin {plugin} is {why}: {remedy}");
            return Err(ApiError::new(StatusCode::CONFLICT, "version-quarantined", detail));
        }
    })
}

async fn tried(state: &AppState, file: PluginFile, jobs: &[Arc<JobSpec>]) -> Result<Trial, ApiError> {
    let plugin = file.plugin.clone();
    state.sandbox.try_out(file, jobs).await.map_err(|why| {
        let detail = format!("this version of plugin {plugin} may not run: {why}; nothing has changed");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin-refused", detail)
    })
}

/// The response to an uploaded version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uploaded {
    /// `runs`, `canary`, `waiting`, `kept` (the plugin stays pinned to another version), or `unchanged`.
    pub outcome: String,
    /// The same for people.
    pub detail: String,
    #[serde(flatten)]
    pub versions: PluginVersions,
}
