//! What is decided of plugins' versions outside of the sandbox: which one runs, and which is on its way.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::id::{Digest, PluginName};
use domain::plugin::PluginVersion;

use crate::folder::PluginFile;

/// All that is decided. Where nothing is, the folder decides.
#[derive(Clone, Default)]
pub struct Decided {
    pub plugins: BTreeMap<PluginName, Standing>,
    pub versions: Option<Arc<dyn Versions>>,
    /// Several hosts go by this: what runs on one runs on all, also where the folder does not hold it.
    pub shared: bool,
}

/// What is decided of one plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// What runs; none if no version may.
    pub stable: Option<Digest>,
    /// A person decided for it, whatever comes.
    pub pinned: bool,
    /// What runs, or is on trial, was uploaded: it does not depend on the folder.
    pub uploaded: bool,
    pub candidate: Option<Candidate>,
}

/// A version that is to take over, if all goes well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub digest: Digest,
    /// Of all items; none goes to a version that waits for approval.
    pub share: Option<f64>,
}

/// Versions beside those in the folder, and who decides between them.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Called for each version that is whole, before it is decided what becomes of it.
    async fn keep(&self, file: &PluginFile);

    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String>;

    /// What is to become of a version in the folder that could run, and is not what runs.
    async fn propose(&self, proposal: Proposal<'_>) -> Result<Answer, String>;
}

/// A version in the folder that is not what runs.
pub struct Proposal<'a> {
    pub version: &'a PluginVersion,
    /// What it asks for that the version before did not.
    pub wants: Vec<String>,
    pub arrival: Arrival,
}

/// Since when the folder holds a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there when this host started, or when it was unpinned.
    AtStart,
    /// It was put there since the last look.
    Fresh,
    /// It was there at the last look.
    Old,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It takes over.
    Run,
    /// A share of the items goes to it.
    Try(f64),
    /// Somebody has to approve of it.
    Wait,
    /// It was replaced already, here or by another host.
    Leave,
    Refuse(String),
}
