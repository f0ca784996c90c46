//! Manual release decisions about the versions of a plugin.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use domain::id::{Digest, PluginName};
use domain::release::Tried;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::AppState;
use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Nothing, Segments, text};
use super::plugins::PluginVersions;
use super::plugins::{Which, named, named_version, of as versions_of};

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/plugins/{plugin}/approve", post(approve))
        .route("/api/v1/plugins/{plugin}/promote", post(promote))
        .route("/api/v1/plugins/{plugin}/quarantine", post(quarantine))
        .route("/api/v1/plugins/{plugin}/retire", post(retire))
}

/// A waiting version proceeds to its share of the items, or to all of them; a quarantined
/// version may come back.
async fn approve(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(which): Body<Which>,
) -> Result<Json<PluginVersions>, ApiError> {
    let (plugin, digest) = named_version(&state, &plugin, &which.digest).await?;
    let rules = &state.versions.rules;
    state.store.approve_version(&plugin, digest, rules, &actor.0, state.clock.now()).await?;
    Ok(Json(versions_of(&state, &plugin).await?))
}

/// A version takes over at once.
async fn promote(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(which): Body<Which>,
) -> Result<Json<PluginVersions>, ApiError> {
    let (plugin, digest) = named_version(&state, &plugin, &which.digest).await?;
    state.store.promote_version(&plugin, digest, &actor.0, state.clock.now()).await?;
    Ok(Json(versions_of(&state, &plugin).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichAndWhy {
    digest: String,
    reason: String,
}

/// A quarantined version does not come back automatically.
async fn quarantine(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(which): Body<WhichAndWhy>,
) -> Result<Json<PluginVersions>, ApiError> {
    let (plugin, digest) = named_version(&state, &plugin, &which.digest).await?;
    let why = text("reason", &which.reason)?;
    let why = domain::limits::cut(&why, domain::limits::Limits::DEFAULT.text_bytes);
    let told = (actor.0.as_str(), why.as_str());
    if !state.store.quarantine_version(&plugin, digest, told, state.clock.now()).await? {
        let detail = format!(
            "version {} of plugin {plugin} is the active one: promote another one first",
            digest.short()
        );
        return Err(ApiError::new(StatusCode::CONFLICT, "version-runs", detail));
    }
    Ok(Json(versions_of(&state, &plugin).await?))
}

/// No version runs on any host until a new one is found or one is promoted.
async fn retire(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PluginVersions>, ApiError> {
    let plugin = named(&plugin)?;
    if !state.store.retire_plugin(&plugin, &actor.0, state.clock.now()).await? {
        return Err(ApiError::not_found(format!("no version of plugin {plugin} is in use")));
    }
    Ok(Json(versions_of(&state, &plugin).await?))
}

pub async fn of(state: &AppState, plugin: &PluginName) -> Result<Option<PluginRelease>, ApiError> {
    let releases = state.store.releases().await?;
    let Some(release) = releases.into_iter().find(|release| release.plugin == *plugin) else {
        return Ok(None);
    };
    let tried = state.store.tried(plugin).await?;
    let of = |digest: Option<Digest>| {
        let tried = digest.and_then(|digest| tried.get(&digest));
        VersionTried::from(tried.copied().unwrap_or_default())
    };
    let candidate = release.candidate.map(|candidate| PluginCandidate {
        digest: candidate.digest.to_string(),
        stage: candidate.stage.word().to_owned(),
        since: candidate.since,
        wants: candidate.wants,
        tried: of(Some(candidate.digest)),
        stable_tried: of(release.stable),
    });
    let stable = release.stable.map(|digest| digest.to_string());
    Ok(Some(PluginRelease { stable, since: release.since, candidate }))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginRelease {
    /// `None` if a person retired the plugin.
    pub stable: Option<String>,
    pub since: Timestamp,
    pub candidate: Option<PluginCandidate>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginCandidate {
    pub digest: String,
    /// `waiting` for approval, or `canary`: it gets a share of the items.
    pub stage: String,
    pub since: Timestamp,
    /// Requirements that the stable version does not have, one per line.
    pub wants: Vec<String>,
    /// Outcomes of attempts since then, on all hosts.
    pub tried: VersionTried,
    pub stable_tried: VersionTried,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionTried {
    pub attempts: u64,
    pub failed: u64,
    pub cpu_us: u64,
}

impl From<Tried> for VersionTried {
    fn from(Tried { attempts, failed, cpu_us }: Tried) -> VersionTried {
        VersionTried { attempts, failed, cpu_us }
    }
}
