//! A loaded version of a plugin.

use std::sync::Arc;

use domain::id::{Digest, PluginName};
use domain::plugin::{Asks, Describe, PluginVersion, VersionState};
use jiff::Timestamp;

use crate::guest::bindings::PluginPre;
use crate::guest::state::GuestState;

/// One version of a plugin, ready to be called.
pub struct Version {
    pub plugin: PluginName,
    pub digest: Digest,
    pub size_bytes: u64,
    pub describe: Arc<Describe>,
    pub pre: PluginPre<GuestState>,
    /// The names of its imports.
    pub imports: Vec<String>,
    pub config_schema: Option<jsonschema::Validator>,
}

impl Version {
    pub fn asks(&self) -> Asks {
        let Describe { statements, topics, capabilities, config, .. } = self.describe.as_ref().clone();
        Asks { imports: self.imports.clone(), statements, topics, capabilities, config }
    }

    /// The host's record of this version, if it was seen now for the first time.
    pub fn record(&self, state: VersionState, now: Timestamp) -> PluginVersion {
        PluginVersion {
            plugin: self.plugin.clone(),
            digest: self.digest,
            size_bytes: self.size_bytes,
            version: self.describe.version.clone(),
            summary: self.describe.summary.clone(),
            asks: Some(self.asks()),
            state,
            seen_at: now,
        }
    }
}
