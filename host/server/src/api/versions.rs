//! All versions of one plugin with its pin and its release state, for the handlers of plugins, releases and
//! uploads.

use domain::id::{Digest, PluginName};
use domain::release::TrialResults;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::plugins::KnownVersion as StoredVersion;

use crate::http::ApiError;
use crate::state::AppState;

/// Versions of one plugin that are listed, and searched for a digest.
pub const VERSIONS_MAX: u32 = 100;
/// Minimum number of digits to identify a version.
const DIGITS_MIN: usize = 6;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The version's digest, or its first digits.
    pub digest: String,
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

pub fn digest_of(version: &StoredVersion) -> Result<Digest, ApiError> {
    version.digest.parse().map_err(|e: &str| ApiError::bad_body(e))
}

/// The version with this digest, or with a digest that starts with these digits.
async fn meant(state: &AppState, plugin: &PluginName, digest: &str) -> Result<StoredVersion, ApiError> {
    let known = state.store.plugins().versions(plugin, VERSIONS_MAX).await?;
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

pub fn named(plugin: &str) -> Result<PluginName, ApiError> {
    plugin.parse().map_err(|_| ApiError::not_found(format!("there is no plugin {plugin:?}")))
}

pub async fn of(state: &AppState, plugin: &PluginName) -> Result<PluginVersions, ApiError> {
    let versions = state.store.plugins().versions(plugin, VERSIONS_MAX).await?;
    if versions.is_empty() {
        return Err(ApiError::not_found(format!("there is no plugin {:?}", plugin.as_str())));
    }
    let pin = state.store.plugins().pins().await?.into_iter().find(|pin| pin.plugin == *plugin);
    Ok(PluginVersions {
        plugin: plugin.to_string(),
        pin: pin.map(|pin| PluginPin { digest: pin.digest.to_string(), by: pin.by, since: pin.since }),
        release: release(state, plugin).await?,
        versions: versions.into_iter().map(KnownVersion::from).collect(),
    })
}

async fn release(state: &AppState, plugin: &PluginName) -> Result<Option<PluginRelease>, ApiError> {
    let releases = state.store.plugins().releases().await?;
    let Some(release) = releases.into_iter().find(|release| release.plugin == *plugin) else {
        return Ok(None);
    };
    let tried = state.store.plugins().tried(plugin).await?;
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

impl From<TrialResults> for VersionTried {
    fn from(TrialResults { attempts, failed, cpu_us }: TrialResults) -> VersionTried {
        VersionTried { attempts, failed, cpu_us }
    }
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
