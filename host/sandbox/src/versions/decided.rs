//! Decisions about plugins' versions that are made outside of the sandbox: the stable version and the
//! candidate.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::id::{Digest, PluginName};
use domain::plugin::PluginVersion;

use crate::versions::folder::PluginFile;

/// All decisions. For plugins without one, the folder decides.
#[derive(Clone, Default)]
pub struct Decided {
    pub plugins: BTreeMap<PluginName, Standing>,
    pub versions: Option<Arc<dyn Versions>>,
    /// The decisions are shared by several hosts: a version runs on all of them, even if a host's folder does
    /// not have it.
    pub shared: bool,
}

/// The release state of one plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The stable version. `None` if no version may run.
    pub stable: Option<Digest>,
    /// A person chose this version; other versions are ignored.
    pub pinned: bool,
    /// The stable version or the candidate was uploaded. It does not depend on the folder.
    pub uploaded: bool,
    pub candidate: Option<Candidate>,
}

/// A version that replaces the stable one if its trial succeeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub digest: Digest,
    /// Its share of all items. `None` for a version that waits for approval.
    pub share: Option<f64>,
}

/// Storage of versions, and the decisions on new versions.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Called for each loaded version, before the decision on it.
    async fn keep(&self, file: &PluginFile);

    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String>;

    /// Decides on a loaded version in the folder that is not the stable one.
    async fn propose(&self, proposal: Proposal<'_>) -> Result<Answer, String>;
}

/// A version in the folder that is not the stable one.
pub struct Proposal<'a> {
    pub version: &'a PluginVersion,
    /// Its requests that the previous version did not have.
    pub wants: Vec<String>,
    pub arrival: Arrival,
}

/// When a version appeared in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there when this host started, or when it was unpinned.
    AtStart,
    /// It was added since the last scan.
    Fresh,
    /// It was there at the last scan.
    Old,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It becomes the active version.
    Run,
    /// It becomes a canary with this share of the items.
    Try(f64),
    /// It waits for approval.
    Wait,
    /// It was already replaced, by this or another host.
    Leave,
    Refuse(String),
}
