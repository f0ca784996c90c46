//! The active versions: set by the catalog, read at the start of each attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::id::{Digest, JobName, PluginName};
use domain::release;

use crate::versions::version::Version;

#[derive(Clone, Default)]
pub struct ActiveVersions {
    pub active: BTreeMap<PluginName, Arc<Version>>,
    pub canaries: BTreeMap<PluginName, OnTrial>,
    /// Why the plugin's file is not the active version.
    pub blocked: BTreeMap<PluginName, String>,
}

#[derive(Clone)]
pub struct OnTrial {
    pub version: Arc<Version>,
    pub share: f64,
}

/// The version chosen for one attempt.
pub struct Chosen {
    pub version: Arc<Version>,
    /// Whether to record the attempt's result, because two versions run side by side.
    pub counts: bool,
}

impl ActiveVersions {
    pub fn choose(&self, plugin: &PluginName, job: &JobName, key: &str) -> Option<Chosen> {
        let active = self.active.get(plugin)?;
        let Some(canary) = self.canaries.get(plugin) else {
            return Some(Chosen { version: active.clone(), counts: false });
        };
        let tries = release::goes_to_canary(canary.version.digest, canary.share, job, key);
        let version = if tries { &canary.version } else { active };
        Some(Chosen { version: version.clone(), counts: true })
    }

    /// The active version or the canary with this digest.
    pub fn holds(&self, plugin: &PluginName, digest: Digest) -> Option<Arc<Version>> {
        let canary = self.canaries.get(plugin).map(|canary| &canary.version);
        let mut versions = self.active.get(plugin).into_iter().chain(canary);
        versions.find(|version| version.digest == digest).cloned()
    }
}
