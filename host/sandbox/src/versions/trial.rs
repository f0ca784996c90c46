//! Versions for a dry run: loaded separately, passed through every check, and never activated.

use std::sync::Arc;

use domain::id::Digest;
use domain::plugin::{Describe, PluginVersion, Statement, VersionState};
use jiff::Timestamp;

use crate::versions::version::Version;

/// A version that can be called, active or not.
#[derive(Clone)]
pub struct Trial(Arc<Version>);

impl Trial {
    pub(crate) fn of(version: Arc<Version>) -> Trial {
        Trial(version)
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
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
        self.0.record(VersionState::Retired, now)
    }
}
