//! Response types of plugins: the versions on this host, all versions of a plugin, and its release state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
