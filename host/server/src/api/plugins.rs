//! Versions of plugins as this host knows them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::{Digest, PluginName};
use domain::plugin::PluginVersion;
use jiff::Timestamp;
use sandbox::Skipped;
use serde::{Deserialize, Serialize};
use store::plugins::KnownVersion as StoredVersion;

use super::authentication::Actor;
use super::extract::{Body, Nothing, Segments};
use super::versions::{PluginVersions, VERSIONS_MAX, Which, digest_of, named, named_version, of};
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/plugins", get(list))
        .route("/api/v1/plugins/{plugin}", get(versions))
        .route("/api/v1/plugins/{plugin}/pin", post(pin))
        .route("/api/v1/plugins/{plugin}/rollback", post(roll_back))
        .route("/api/v1/plugins/{plugin}/unpin", post(unpin))
}

async fn list(State(state): State<AppState>) -> Json<Plugins> {
    let plugins = state.sandbox.versions().into_iter().map(Plugin::from).collect();
    let trouble = state.sandbox.trouble();
    let files = |files: &[Skipped]| files.iter().map(SkippedFile::from).collect();
    Json(Plugins {
        problem: trouble.problem.clone(),
        warning: trouble.warning.clone(),
        skipped: files(&trouble.skipped),
        unsigned: files(&trouble.unsigned),
        allocator: state.sandbox.allocator().to_owned(),
        plugins,
    })
}

async fn versions(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
) -> Result<Json<PluginVersions>, ApiError> {
    Ok(Json(of(&state, &named(&plugin)?).await?))
}

async fn pin(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(which): Body<Which>,
) -> Result<Json<PluginVersions>, ApiError> {
    let (plugin, digest) = named_version(&state, &plugin, &which.digest).await?;
    pinned(&state, &plugin, digest, &actor).await
}

/// Rolls back to the version that ran before the active one.
async fn roll_back(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PluginVersions>, ApiError> {
    let plugin = named(&plugin)?;
    let known = state.store.plugins().versions(&plugin, VERSIONS_MAX).await?;
    match before(&state, &plugin, &known).await? {
        Some(before) => pinned(&state, &plugin, digest_of(before)?, &actor).await,
        None => {
            let detail = format!("plugin {plugin} has no version that ran before and is kept");
            Err(ApiError::new(StatusCode::CONFLICT, "no-version-before", detail))
        }
    }
}

/// The version released last, except the active one.
async fn before<'a>(
    state: &AppState,
    plugin: &PluginName,
    known: &'a [StoredVersion],
) -> Result<Option<&'a StoredVersion>, ApiError> {
    let pins = state.store.plugins().pins().await?;
    let pinned = pins.into_iter().find(|pin| pin.plugin == *plugin).map(|pin| pin.digest);
    let releases = state.store.plugins().releases().await?;
    let released = releases.into_iter().find(|release| release.plugin == *plugin);
    let now = pinned.or_else(|| released.and_then(|release| release.stable)).map(|digest| digest.to_string());
    let ran = known.iter().filter(|one| one.kept && Some(&one.digest) != now.as_ref());
    Ok(ran.filter(|one| one.released_at.is_some()).max_by_key(|one| one.released_at))
}

async fn unpin(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PluginVersions>, ApiError> {
    let plugin = named(&plugin)?;
    state.store.plugins().unpin(&plugin, &actor.0, state.clock.now()).await?;
    Ok(Json(of(&state, &plugin).await?))
}

async fn pinned(
    state: &AppState,
    plugin: &PluginName,
    digest: Digest,
    actor: &Actor,
) -> Result<Json<PluginVersions>, ApiError> {
    state.store.plugins().pin(plugin, digest, &actor.0, state.clock.now()).await?;
    Ok(Json(of(state, plugin).await?))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plugins {
    /// How the sandbox gets memory for guests.
    pub allocator: String,
    /// Why the plugins folder cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What an administrator should change about the plugins folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Files of the folder that are not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedFile>,
    /// Files that run although they have no trusted signature.
    #[serde(default)]
    pub unsigned: Vec<SkippedFile>,
    pub plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedFile {
    pub file: String,
    pub reason: String,
}

impl From<&Skipped> for SkippedFile {
    fn from(skipped: &Skipped) -> SkippedFile {
        SkippedFile { file: skipped.file.clone(), reason: skipped.reason.clone() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plugin {
    pub plugin: String,
    pub digest: String,
    pub size_bytes: u64,
    pub version: String,
    pub summary: String,
    pub state: String,
    /// Why it was rejected.
    pub reason: Option<String>,
    pub seen_at: Timestamp,
}

impl From<PluginVersion> for Plugin {
    fn from(version: PluginVersion) -> Plugin {
        Plugin {
            plugin: version.plugin.to_string(),
            digest: version.digest.to_string(),
            size_bytes: version.size_bytes,
            version: version.version,
            summary: version.summary,
            state: version.state.word().to_owned(),
            reason: version.state.reason().map(str::to_owned),
            seen_at: version.seen_at,
        }
    }
}
