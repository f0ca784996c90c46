//! One plugin over the wire: its versions, and the one that a person decided for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginVersions {
    pub plugin: String,
    /// The version that all hosts run, whatever their folders hold.
    pub pin: Option<PluginPin>,
    /// Those that changed last first.
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
    /// The host that saw it in this state, and when.
    pub host: String,
    pub seen_at: Timestamp,
    /// Whether it can be pinned.
    pub kept: bool,
    /// Imports, statements, topics, capabilities and the config's schema; nothing if it could not be asked.
    pub asks: Option<Value>,
}
