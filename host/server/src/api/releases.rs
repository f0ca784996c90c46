//! Manual release decisions about the versions of a plugin.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

use super::authentication::Actor;
use super::extract::{Body, Nothing, Segments, text};
use super::versions::{PluginVersions, Which, named, named_version, of as versions_of};
use crate::http::ApiError;
use crate::state::AppState;

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
    state.store.plugins().approve(&plugin, digest, rules, &actor.0, state.clock.now()).await?;
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
    state.store.plugins().promote(&plugin, digest, &actor.0, state.clock.now()).await?;
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
    let by = (actor.0.as_str(), why.as_str());
    if !state.store.plugins().quarantine(&plugin, digest, by, state.clock.now()).await? {
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
    if !state.store.plugins().retire(&plugin, &actor.0, state.clock.now()).await? {
        return Err(ApiError::not_found(format!("no version of plugin {plugin} is in use")));
    }
    Ok(Json(versions_of(&state, &plugin).await?))
}
