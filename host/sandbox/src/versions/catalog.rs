//! The versions of this process: the active one of each plugin, and the results of loading files. Changes of the
//! active versions become visible by swapping one pointer, and running attempts keep the version they started
//! with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use domain::id::PluginName;
use domain::job::JobSpec;
use tokio::sync::Notify;

use crate::config::SandboxConfig;
use crate::versions::active_versions::{ActiveVersions, Chosen};
use crate::versions::component::{Loader, StatementCheck};
use crate::versions::folder::PluginFile;
use crate::versions::history::History;
use crate::versions::loads::Loads;
use crate::versions::report::Trouble;
use crate::versions::signature::Policy;
use crate::versions::trial::Trial;
use crate::versions::version::Version;

pub struct Catalog {
    pub config: SandboxConfig,
    pub loader: Arc<Loader>,
    pub history: History,
    pub trouble: ArcSwap<Trouble>,
    /// The loads of the last scan. Locked during a scan, so scans do not overlap.
    pub loads: tokio::sync::Mutex<Loads>,
    /// Notified when a load ends that a scan did not wait for.
    pub loaded: Arc<Notify>,
    statements: Option<Arc<dyn StatementCheck>>,
    active_versions: ArcSwap<ActiveVersions>,
}

impl Catalog {
    pub fn new(
        config: SandboxConfig,
        loader: Loader,
        statements: Option<Arc<dyn StatementCheck>>,
    ) -> Catalog {
        let history = History::new(config.versions_max);
        Catalog {
            config,
            loader: Arc::new(loader),
            history,
            trouble: ArcSwap::default(),
            loads: tokio::sync::Mutex::default(),
            loaded: Arc::default(),
            statements,
            active_versions: ArcSwap::default(),
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

    pub fn active_versions(&self) -> Arc<ActiveVersions> {
        self.active_versions.load_full()
    }

    /// Called only while `loads` is locked.
    pub fn change_active_versions(&self, change: impl FnOnce(&mut ActiveVersions)) {
        let mut active_versions = ActiveVersions::clone(&self.active_versions.load());
        change(&mut active_versions);
        self.active_versions.store(Arc::new(active_versions));
    }

    /// Why a loaded version is rejected, if so. The databases check its statements once, before its first
    /// attempt.
    pub async fn refusal(&self, version: &Version, jobs: &[Arc<JobSpec>]) -> Option<String> {
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
            None => Ok(Trial::of(Arc::new(version))),
        }
    }
}
