//! Versions of plugins as this host knows them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::{Digest, PluginName};
use domain::plugin::PluginVersion;

use sandbox::Skipped;
use serde::Deserialize;
use store::plugins::KnownVersion;

use super::AppState;
use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Segments};
use super::types::{self, Nothing, Plugin, PluginPin, PluginVersions, Plugins, SkippedFile};

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/plugins", get(list))
        .route("/api/v1/plugins/{plugin}", get(versions))
        .route("/api/v1/plugins/{plugin}/pin", post(pin))
        .route("/api/v1/plugins/{plugin}/rollback", post(roll_back))
        .route("/api/v1/plugins/{plugin}/unpin", post(unpin))
}

async fn list(State(state): State<AppState>) -> Json<Plugins> {
    let plugins = state.sandbox.versions().into_iter().map(view).collect();
    let trouble = state.sandbox.trouble();
    let files = |files: &[Skipped]| {
        files.iter().map(|one| SkippedFile { file: one.file.clone(), reason: one.reason.clone() }).collect()
    };
    Json(Plugins {
        problem: trouble.problem.clone(),
        warning: trouble.warning.clone(),
        skipped: files(&trouble.skipped),
        unsigned: files(&trouble.unsigned),
        allocator: state.sandbox.allocator().to_owned(),
        plugins,
    })
}

fn view(version: PluginVersion) -> Plugin {
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

/// Versions of one plugin that are listed, and searched for a digest.
const VERSIONS_MAX: u32 = 100;
/// Minimum number of digits to identify a version.
const DIGITS_MIN: usize = 6;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The version's digest, or its first digits.
    pub digest: String,
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

/// The plugin, and the version that the first digits identify.
pub async fn named_version(
    state: &AppState,
    plugin: &str,
    digits: &str,
) -> Result<(PluginName, Digest), ApiError> {
    let plugin = named(plugin)?;
    let digest = digest_of(&meant(state, &plugin, digits).await?)?;
    Ok((plugin, digest))
}

fn digest_of(version: &KnownVersion) -> Result<Digest, ApiError> {
    version.digest.parse().map_err(|e: &str| ApiError::bad_body(e))
}

/// The version with this digest, or with a digest that starts with these digits.
async fn meant(state: &AppState, plugin: &PluginName, digest: &str) -> Result<KnownVersion, ApiError> {
    let known = state.store.plugin_versions(plugin, VERSIONS_MAX).await?;
    let digest = digest.to_ascii_lowercase();
    let mut meant = known.iter().filter(|version| version.digest.starts_with(&digest));
    match (meant.next(), meant.next()) {
        _ if digest.len() < DIGITS_MIN => {
            Err(ApiError::bad_body(format!("{digest:?} is too short: give {DIGITS_MIN} digits or more")))
        }
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(ApiError::not_found(format!("plugin {plugin} has no version {digest:?}"))),
        (Some(_), Some(_)) => {
            Err(ApiError::bad_body(format!("{digest:?} can mean several versions: give more digits")))
        }
    }
}

/// Rolls back to the version that ran before the active one.
async fn roll_back(
    State(state): State<AppState>,
    Segments(plugin): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PluginVersions>, ApiError> {
    let plugin = named(&plugin)?;
    let known = state.store.plugin_versions(&plugin, VERSIONS_MAX).await?;
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
    known: &'a [KnownVersion],
) -> Result<Option<&'a KnownVersion>, ApiError> {
    let pins = state.store.plugin_pins().await?;
    let pinned = pins.into_iter().find(|pin| pin.plugin == *plugin).map(|pin| pin.digest);
    let releases = state.store.releases().await?;
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
    state.store.unpin_plugin(&plugin, &actor.0, state.clock.now()).await?;
    Ok(Json(of(&state, &plugin).await?))
}

pub fn named(plugin: &str) -> Result<PluginName, ApiError> {
    plugin.parse().map_err(|_| ApiError::not_found(format!("there is no plugin {plugin:?}")))
}

async fn pinned(
    state: &AppState,
    plugin: &PluginName,
    digest: Digest,
    actor: &Actor,
) -> Result<Json<PluginVersions>, ApiError> {
    state.store.pin_plugin(plugin, digest, &actor.0, state.clock.now()).await?;
    Ok(Json(of(state, plugin).await?))
}

pub async fn of(state: &AppState, plugin: &PluginName) -> Result<PluginVersions, ApiError> {
    let versions = state.store.plugin_versions(plugin, VERSIONS_MAX).await?;
    if versions.is_empty() {
        return Err(ApiError::not_found(format!("there is no plugin {:?}", plugin.as_str())));
    }
    let pin = state.store.plugin_pins().await?.into_iter().find(|pin| pin.plugin == *plugin);
    Ok(PluginVersions {
        plugin: plugin.to_string(),
        pin: pin.map(|pin| PluginPin { digest: pin.digest.to_string(), by: pin.by, since: pin.since }),
        release: super::releases::of(state, plugin).await?,
        versions: versions.into_iter().map(known_view).collect(),
    })
}

fn known_view(version: KnownVersion) -> types::KnownVersion {
    types::KnownVersion {
        digest: version.digest,
        size_bytes: version.size_bytes,
        version: version.version,
        summary: version.summary,
        state: version.state,
        reason: version.reason,
        host: version.host,
        seen_at: version.seen_at,
        kept: version.kept,
        asks: serde_json::from_str(&version.asks).ok(),
    }
}
