//! Versions for a dry run: loaded separately, passed through every check, and never activated.

use std::sync::Arc;

use domain::id::Digest;
use domain::job::JobSpec;
use domain::plugin::{Describe, PluginVersion, Statement, VersionState};
use jiff::Timestamp;

use super::Catalog;
use crate::versions::component::Version;
use crate::versions::folder::PluginFile;
use crate::versions::signature::Policy;

/// A version that can be called, active or not.
#[derive(Clone)]
pub struct Trial(Arc<Version>);

impl Trial {
    pub(crate) fn of(version: Arc<Version>) -> Trial {
        Trial(version)
    }

    pub(crate) fn version(&self) -> &Version {
        &self.0
    }

    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    pub fn describe(&self) -> &Describe {
        &self.0.describe
    }

    /// The name under which this version declares the statement.
    pub fn name_of(&self, statement: &Statement) -> Option<&str> {
        let mut statements = self.0.describe.statements.iter();
        statements.find(|(_, one)| *one == statement).map(|(name, _)| name.as_str())
    }

    /// The record of a version that no host has run yet.
    pub fn noted(&self, now: Timestamp) -> PluginVersion {
        let version = &self.0;
        PluginVersion {
            plugin: version.plugin.clone(),
            digest: version.digest,
            size_bytes: version.size_bytes,
            version: version.describe.version.clone(),
            summary: version.describe.summary.clone(),
            asks: Some(version.asks()),
            state: VersionState::Retired,
            seen_at: now,
        }
    }
}

impl Catalog {
    pub fn component_bytes_max(&self) -> usize {
        self.config.load.component_size
    }

    /// The version of these bytes, or why these jobs cannot use it.
    pub async fn try_out(&self, file: PluginFile, jobs: &[Arc<JobSpec>]) -> Result<Trial, String> {
        if file.bytes.len() > self.config.load.component_size {
            return Err(self.config.load.too_large());
        }
        let signatures = &self.config.signatures;
        if signatures.policy == Policy::Required
            && let Some(why) = signatures.refuse(&file.bytes, file.signature.as_deref())
        {
            return Err(why);
        }
        let version = self.loader.load(file).await.map_err(|refusal| refusal.reason)?;
        match self.refusal(&version, jobs).await {
            Some(why) => Err(why),
            None => Ok(Trial(Arc::new(version))),
        }
    }
}
