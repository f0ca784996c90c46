//! The active version of each plugin. A rescan reads the whole folder and identifies files by their digest.
//! Its decisions become visible by swapping one pointer, and running attempts keep the version they started
//! with.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use domain::id::PluginName;
use domain::job::JobSpec;
use domain::plugin::PluginVersion;
use tokio::sync::Notify;

use crate::config::SandboxConfig;
use crate::versions::component::{Loader, StatementCheck, Version};
use crate::versions::decided::Decided;
use crate::versions::history::History;

mod active_versions;
mod loads;
mod round;
mod seen;
mod trial;

use self::active_versions::ActiveVersions;
pub use self::active_versions::Chosen;
use self::round::{Present, Round};
pub use self::trial::Trial;

/// The changes of one rescan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    pub activated: Vec<PluginVersion>,
    /// Canaries, and versions that wait for approval.
    pub on_trial: Vec<PluginVersion>,
    /// Rejected for the first time, or for a new reason.
    pub rejected: Vec<PluginVersion>,
    pub retired: Vec<PluginVersion>,
    pub unchanged: usize,
    /// A compilation is still in progress: [`Catalog::loaded`] resolves when to scan again.
    pub loading: bool,
    pub trouble: Trouble,
}

/// Problems of the last rescan that do not belong to a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Why the folder could not be read. In this case nothing was changed.
    pub problem: Option<String>,
    /// Advice to the admin about the folder. It does not affect the scan.
    pub warning: Option<String>,
    /// Files that were not read.
    pub skipped: Vec<Skipped>,
    /// Active files without a trusted signature.
    pub unsigned: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub file: String,
    pub reason: String,
}

pub struct Catalog {
    config: SandboxConfig,
    loader: Arc<Loader>,
    statements: Option<Arc<dyn StatementCheck>>,
    history: History,
    active_versions: ArcSwap<ActiveVersions>,
    trouble: ArcSwap<Trouble>,
    /// The result of the last rescan. Locked during a rescan, so rescans do not overlap.
    present: tokio::sync::Mutex<Present>,
    loaded: Arc<Notify>,
}

impl Catalog {
    pub fn new(
        config: SandboxConfig,
        loader: Loader,
        statements: Option<Arc<dyn StatementCheck>>,
    ) -> Catalog {
        let history = History::new(config.versions_max, config.clock.clone());
        Catalog {
            config,
            loader: Arc::new(loader),
            statements,
            history,
            active_versions: ArcSwap::default(),
            trouble: ArcSwap::default(),
            present: tokio::sync::Mutex::default(),
            loaded: Arc::default(),
        }
    }

    pub fn active(&self, plugin: &PluginName) -> Option<Arc<Version>> {
        self.active_versions.load().active.get(plugin).cloned()
    }

    /// The version that an item is assigned to.
    pub fn choose(&self, job: &JobSpec, key: &str) -> Option<Chosen> {
        self.active_versions.load().choose(&job.plugin, &job.name, key)
    }

    pub fn why_blocked(&self, plugin: &PluginName) -> String {
        match self.active_versions.load().blocked.get(plugin) {
            Some(why) => format!("plugin {plugin} has no version that can run: {why}"),
            None => format!("plugin {plugin} is not in {}", self.config.plugins_dir.display()),
        }
    }

    pub fn versions(&self) -> Vec<PluginVersion> {
        self.history.versions()
    }

    pub fn trouble(&self) -> Arc<Trouble> {
        self.trouble.load_full()
    }

    /// `patience` bounds the wait for compilations; a longer one is taken over by a later rescan. `None`
    /// waits for all.
    pub async fn rescan(
        &self,
        jobs: &[Arc<JobSpec>],
        decided: &Decided,
        patience: Option<Duration>,
    ) -> ScanReport {
        let mut present = self.present.lock().await;
        let report = Round::new(self, jobs, decided, patience, &mut present).run().await;
        self.trouble.store(Arc::new(report.trouble.clone()));
        report
    }

    /// Resolves when a compilation ended that a rescan did not wait for.
    pub async fn loaded(&self) {
        self.loaded.notified().await;
    }

    /// Cancels all compilations in progress.
    pub async fn stop_loading(&self) {
        self.present.lock().await.loads.clear();
    }

    fn active_versions(&self) -> Arc<ActiveVersions> {
        self.active_versions.load_full()
    }

    /// Why a loaded version is rejected, if so. The databases check its statements once, before its first
    /// attempt.
    async fn refusal(&self, version: &Version, jobs: &[Arc<JobSpec>]) -> Option<String> {
        let mut users = jobs.iter().filter(|job| job.plugin == version.plugin);
        if let Some(why) = users.find_map(|job| version.refused_by(job)) {
            return Some(why);
        }
        let runs = self.active_versions().holds(&version.plugin, version.digest).is_some();
        match &self.statements {
            Some(check) if !runs => version.refused_statement(check.as_ref()).await,
            _ => None,
        }
    }

    /// Called only while `present` is locked.
    fn change_shelf(&self, change: impl FnOnce(&mut ActiveVersions)) {
        let mut active_versions = ActiveVersions::clone(&self.active_versions.load());
        change(&mut active_versions);
        self.active_versions.store(Arc::new(active_versions));
    }
}
