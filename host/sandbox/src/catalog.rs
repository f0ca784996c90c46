//! Which version of each plugin runs. A rescan reads the folder whole and goes by the bytes' digest;
//! what it decides becomes visible by one pointer, and attempts that run keep what they started with.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use domain::id::PluginName;
use domain::job::JobSpec;
use domain::plugin::PluginVersion;
use tokio::sync::Notify;

use crate::component::{StatementCheck, Version, Workshop};
use crate::config::SandboxConfig;
use crate::decided::Decided;
use crate::history::History;

mod loads;
mod round;
mod seen;
mod shelf;
mod trial;

use self::round::{Present, Round};
pub use self::shelf::Chosen;
use self::shelf::Shelf;
pub use self::trial::Trial;

/// What a rescan changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    pub activated: Vec<PluginVersion>,
    /// On a share of the items, or waiting for approval.
    pub on_trial: Vec<PluginVersion>,
    /// Newly so, or for another reason than before.
    pub rejected: Vec<PluginVersion>,
    pub retired: Vec<PluginVersion>,
    pub unchanged: usize,
    /// Something takes longer to compile: [`Catalog::loaded`] tells when to look again.
    pub loading: bool,
    pub trouble: Trouble,
}

/// What stood in the way of the last rescan, and belongs to no version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Why the folder could not be read; then nothing has changed.
    pub problem: Option<String>,
    /// What an admin should change about the folder; nothing else depends on it.
    pub warning: Option<String>,
    /// Files that were not even read.
    pub skipped: Vec<Skipped>,
    /// Files that run although nobody trusted has signed them.
    pub unsigned: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub file: String,
    pub reason: String,
}

pub struct Catalog {
    config: SandboxConfig,
    workshop: Arc<Workshop>,
    statements: Option<Arc<dyn StatementCheck>>,
    history: History,
    shelf: ArcSwap<Shelf>,
    trouble: ArcSwap<Trouble>,
    /// What was there at the last rescan. Held through a rescan: there is one at a time.
    present: tokio::sync::Mutex<Present>,
    loaded: Arc<Notify>,
}

impl Catalog {
    pub fn new(
        config: SandboxConfig,
        workshop: Workshop,
        statements: Option<Arc<dyn StatementCheck>>,
    ) -> Catalog {
        let history = History::new(config.versions_max, config.clock.clone());
        Catalog {
            config,
            workshop: Arc::new(workshop),
            statements,
            history,
            shelf: ArcSwap::default(),
            trouble: ArcSwap::default(),
            present: tokio::sync::Mutex::default(),
            loaded: Arc::default(),
        }
    }

    pub fn active(&self, plugin: &PluginName) -> Option<Arc<Version>> {
        self.shelf.load().active.get(plugin).cloned()
    }

    /// The version that an item goes to.
    pub fn choose(&self, job: &JobSpec, key: &str) -> Option<Chosen> {
        self.shelf.load().choose(&job.plugin, &job.name, key)
    }

    pub fn why_blocked(&self, plugin: &PluginName) -> String {
        match self.shelf.load().blocked.get(plugin) {
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

    /// `patience` is for what is compiled: what takes longer is taken over by a later look. None waits for all.
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

    /// Resolves when something was compiled that a look had left to a later one.
    pub async fn loaded(&self) {
        self.loaded.notified().await;
    }

    /// Ends what is being compiled.
    pub async fn stop_loading(&self) {
        self.present.lock().await.loads.clear();
    }

    fn shelf(&self) -> Arc<Shelf> {
        self.shelf.load_full()
    }

    /// Why a whole version may not run. The databases are asked once, before its first attempt.
    async fn refusal(&self, version: &Version, jobs: &[Arc<JobSpec>]) -> Option<String> {
        let mut users = jobs.iter().filter(|job| job.plugin == version.plugin);
        if let Some(why) = users.find_map(|job| version.refused_by(job)) {
            return Some(why);
        }
        let runs = self.shelf().holds(&version.plugin, version.digest).is_some();
        match &self.statements {
            Some(check) if !runs => version.refused_statement(check.as_ref()).await,
            _ => None,
        }
    }

    /// Only called under the lock of `present`.
    fn change_shelf(&self, change: impl FnOnce(&mut Shelf)) {
        let mut shelf = Shelf::clone(&self.shelf.load());
        change(&mut shelf);
        self.shelf.store(Arc::new(shelf));
    }
}
