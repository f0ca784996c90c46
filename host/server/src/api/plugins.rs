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
use serde_json::Value;
use store::plugins::KnownVersion as StoredVersion;

use super::AppState;
use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Nothing, Segments};

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

fn digest_of(version: &StoredVersion) -> Result<Digest, ApiError> {
    version.digest.parse().map_err(|e: &str| ApiError::bad_body(e))
}

/// The version with this digest, or with a digest that starts with these digits.
async fn meant(state: &AppState, plugin: &PluginName, digest: &str) -> Result<StoredVersion, ApiError> {
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
    known: &'a [StoredVersion],
) -> Result<Option<&'a StoredVersion>, ApiError> {
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
        versions: versions.into_iter().map(KnownVersion::from).collect(),
    })
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginVersions {
    pub plugin: String,
    /// The version that all hosts run, whatever their folders contain.
    pub pin: Option<PluginPin>,
    /// The stable version without a pin, and the candidate that may replace it.
    pub release: Option<PluginRelease>,
    /// The most recently changed first.
    pub versions: Vec<KnownVersion>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginPin {
    pub digest: String,
    pub by: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KnownVersion {
    pub digest: String,
    pub size_bytes: i64,
    pub version: String,
    pub summary: String,
    pub state: String,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// The host that recorded this state, and when.
    pub host: String,
    pub seen_at: Timestamp,
    /// Whether it can be pinned.
    pub kept: bool,
    /// Imports, statements, topics, capabilities and the config's schema; `None` if the version
    /// could not describe itself.
    pub asks: Option<Value>,
}

impl From<StoredVersion> for KnownVersion {
    fn from(version: StoredVersion) -> KnownVersion {
        KnownVersion {
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
}
