//! One scan of the plugins folder: reads and loads files, and applies the changes of the plan.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::{PluginVersion, VersionState};
use domain::release::Decision;
use domain::release::plan::{Change, Facts, Load, Step, plan};
use tokio::sync::MutexGuard;
use tokio_util::task::AbortOnDropHandle;

use crate::config::LoadLimits;
use crate::guest::convert::shown;
use crate::versions::active_versions::OnTrial;
use crate::versions::catalog::Catalog;
use crate::versions::compile::Refusal;
use crate::versions::folder::{Content, Folder, Listing, PluginFile};
use crate::versions::loads::{LoadResult, Loads, RunningLoad};
use crate::versions::report::{ScanReport, Skipped};
use crate::versions::signature::Policy;
use crate::versions::version::Version;

/// Maximum number of loads of a file that fail for a temporary reason. Each scan loads it again; scans are at
/// most 30 s apart.
const TRIES_MAX: u32 = 5;

/// A scan that has not ended. If it is dropped, the next scan begins with the results of the last one.
pub struct Scan<'a> {
    catalog: &'a Catalog,
    jobs: &'a [Arc<JobSpec>],
    /// How long to wait for each compilation. `None` is unlimited.
    patience: Option<Duration>,
    folder: Arc<Folder>,
    in_folder: BTreeSet<PluginName>,
    last: MutexGuard<'a, Loads>,
    now: Loads,
    report: ScanReport,
}

/// The result of loading a file in a scan.
pub struct Loaded {
    pub load: Load,
    /// The file, if it was loaded for the first time and is a version.
    pub new: Option<PluginFile>,
}

impl<'a> Scan<'a> {
    /// Opens and lists the folder. If that fails, nothing changes.
    pub async fn open(
        catalog: &'a Catalog,
        jobs: &'a [Arc<JobSpec>],
        patience: Option<Duration>,
    ) -> Result<Scan<'a>, ScanReport> {
        let last = catalog.loads.lock().await;
        let mut report = ScanReport::default();
        let dir = catalog.config.plugins_dir.clone();
        let open = move || {
            let folder = Folder::open(&dir)?;
            let listing = folder.list()?;
            Ok((folder, listing))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let (folder, listing) = match opened.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(opened) => opened,
            Err(e) => {
                let dir = catalog.config.plugins_dir.display();
                report.trouble.problem = Some(format!("cannot read the plugins folder {dir}: {e}"));
                catalog.trouble.store(Arc::new(report.trouble.clone()));
                return Err(report);
            }
        };
        let Listing { plugins, misnamed } = listing;
        report.trouble.skipped =
            misnamed.into_iter().map(|(file, reason)| Skipped { file, reason }).collect();
        report.trouble.warning = warning(catalog, &folder);
        let (folder, in_folder, now) = (Arc::new(folder), plugins.into_iter().collect(), Loads::default());
        Ok(Scan { catalog, jobs, patience, folder, in_folder, last, now, report })
    }

    /// The plugins with a file in the folder.
    pub fn in_folder(&self) -> &BTreeSet<PluginName> {
        &self.in_folder
    }

    /// The plugins with an active version, or with a reason why they have none.
    pub fn in_use(&self) -> BTreeSet<PluginName> {
        let active_versions = self.catalog.active_versions();
        active_versions.active.keys().chain(active_versions.blocked.keys()).cloned().collect()
    }

    /// Whether a version of the plugin is on trial on this host.
    pub fn is_on_trial(&self, plugin: &PluginName) -> bool {
        self.catalog.active_versions().canaries.contains_key(plugin)
    }

    /// Reads and loads the plugin's file.
    pub async fn load_file(&mut self, plugin: &PluginName) -> Loaded {
        let (folder, name) = (self.folder.clone(), plugin.clone());
        let limits = self.catalog.config.load;
        let (bytes_max, hashed_max) = (limits.component_size, LoadLimits::CEILING.component_size);
        let read = tokio::task::spawn_blocking(move || folder.read(&name, bytes_max, hashed_max)).await;
        match read.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(Content::Whole(file)) => self.load(file).await,
            Ok(Content::TooLarge { digest, size_bytes }) => {
                self.note(plugin, &LoadResult::too_large(digest, size_bytes, limits.too_large()));
                Loaded { load: Load::Done(digest), new: None }
            }
            Err(reason) => Loaded { load: Load::Unavailable(reason), new: None },
        }
    }

    /// Whether the result of loading this version is known, so that its file is not needed.
    pub fn knows(&mut self, plugin: &PluginName, digest: Digest) -> bool {
        let known = self.last.results.get(&(plugin.clone(), digest)).filter(|known| known.tries_left == 0);
        let known = known.cloned();
        known.inspect(|known| self.note(plugin, known)).is_some()
    }

    /// Compiles and describes the file, unless this was done for the same bytes.
    pub async fn load(&mut self, file: PluginFile) -> Loaded {
        let (plugin, digest) = (file.plugin.clone(), file.digest);
        let known = self.last.results.get(&(plugin.clone(), digest)).cloned();
        let known = known.filter(|known| known.signature == file.signature);
        if let Some(known) = known.as_ref().filter(|known| known.tries_left == 0) {
            self.note(&plugin, known);
            return Loaded { load: Load::Done(digest), new: None };
        }
        let Some(result) = self.compile(&file, known.map(|known| known.tries_left)).await else {
            return Loaded { load: Load::InProgress, new: None };
        };
        self.note(&plugin, &result);
        let is_new = result.loaded.is_ok() && self.catalog.active_versions().holds(&plugin, digest).is_none();
        Loaded { load: Load::Done(digest), new: is_new.then_some(file) }
    }

    /// `None` while the compilation is in progress. `tries_left` is that of an earlier, temporary failure.
    async fn compile(&mut self, file: &PluginFile, tries_left: Option<u32>) -> Option<LoadResult> {
        let key = (file.plugin.clone(), file.digest);
        if self.now.running.contains_key(&key) {
            return None;
        }
        let running = self.last.running.remove(&key).filter(|load| load.signature == file.signature);
        // An earlier scan has already waited for this load.
        let patience =
            self.patience.map(|patience| if running.is_some() { Duration::ZERO } else { patience });
        let load = running.unwrap_or_else(|| {
            let (signature, ended) = (file.signature.clone(), self.catalog.loaded.clone());
            RunningLoad::start(signature, load(self.catalog, file.clone(), tries_left), ended)
        });
        match load.within(patience).await {
            Ok(result) => Some(result),
            Err(load) => {
                self.now.running.insert(key, load);
                None
            }
        }
    }

    fn note(&mut self, plugin: &PluginName, result: &LoadResult) {
        if let Some(reason) = result.unsigned.clone().filter(|_| result.loaded.is_ok()) {
            self.report.trouble.unsigned.push(Skipped { file: format!("{plugin}.wasm"), reason });
        }
        self.now.results.insert((plugin.clone(), result.digest), result.clone());
    }

    /// Why these jobs cannot use the version, or why it could not be loaded.
    pub async fn check(&self, plugin: &PluginName, digest: Digest) -> Result<(), String> {
        let result = self.result(plugin, digest).ok_or("it is not loaded")?;
        match self.catalog.refusal(result.loaded.as_ref()?, self.jobs).await {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    }

    fn result(&self, plugin: &PluginName, digest: Digest) -> Option<&LoadResult> {
        self.now.results.get(&(plugin.clone(), digest))
    }

    fn version(&self, plugin: &PluginName, digest: Digest) -> Option<Arc<Version>> {
        self.result(plugin, digest)?.loaded.as_ref().ok().cloned()
    }

    /// The version as a candidate, with its requests that the active version does not have.
    pub fn proposal(&self, plugin: &PluginName, digest: Digest) -> Option<(PluginVersion, Vec<String>)> {
        let version = self.version(plugin, digest)?;
        let before = self.catalog.active(plugin).map(|active| active.asks());
        let wants = before.map_or_else(Vec::new, |before| version.asks().beyond(&before));
        let waiting = VersionState::Waiting(wants.join("\n"));
        Some((version.record(waiting, self.catalog.config.clock.now()), wants))
    }

    pub fn apply(&mut self, plugin: &PluginName, change: Change) {
        match change {
            Change::Activate(digest) => self.activate(plugin, digest),
            Change::PutOnTrial(digest, share) => {
                let version = self.version(plugin, digest);
                self.put_on_trial(plugin, version.map(|version| OnTrial { version, share }));
            }
            Change::EndTrial => self.put_on_trial(plugin, None),
            Change::AwaitLoad => self.block(plugin, "it is being compiled"),
            Change::AwaitApproval(digest) => {
                let waiting = self.proposal(plugin, digest).map(|(waiting, _)| waiting);
                let changed = waiting.and_then(|waiting| self.catalog.history.record(waiting));
                self.report.on_trial.extend(changed);
            }
            Change::Ignore(_) => self.report.unchanged += 1,
            Change::Reject(digest, reason) => self.reject(plugin, digest, &reason),
            Change::Block(reason) => {
                self.block(plugin, &reason);
                self.report.trouble.skipped.push(Skipped { file: format!("{plugin}.wasm"), reason });
            }
            Change::Disable => {
                self.block(plugin, "it was taken out of use");
                self.deactivate(plugin);
            }
            Change::Retire => {
                self.deactivate(plugin);
                self.catalog.change_active_versions(|active_versions| {
                    active_versions.canaries.remove(plugin);
                    active_versions.blocked.remove(plugin);
                });
            }
        }
    }

    fn activate(&mut self, plugin: &PluginName, digest: Digest) {
        let Some(version) = self.version(plugin, digest) else { return };
        let old = self.catalog.active(plugin);
        self.catalog.change_active_versions(|active_versions| {
            active_versions.blocked.remove(plugin);
            active_versions.active.insert(plugin.clone(), version.clone());
        });
        if old.as_ref().is_some_and(|old| old.digest == digest) {
            self.report.unchanged += 1;
            return;
        }
        if let Some(old) = old {
            self.retire(&old);
        }
        let changed = self.record(&version, VersionState::Active);
        self.report.activated.extend(changed);
    }

    /// Sets the plugin's canary, or removes it.
    fn put_on_trial(&mut self, plugin: &PluginName, on_trial: Option<OnTrial>) {
        let before = self.catalog.active_versions().canaries.get(plugin).map(|canary| canary.version.clone());
        if let Some(OnTrial { version, .. }) = &on_trial {
            let changed = self.record(version, VersionState::Canary);
            self.report.on_trial.extend(changed);
        }
        let goes_on =
            |old: &Arc<Version>| on_trial.as_ref().is_some_and(|new| new.version.digest == old.digest);
        if let Some(old) = before.filter(|old| !goes_on(old)) {
            self.leave_trial(&old);
        }
        self.catalog.change_active_versions(|active_versions| match on_trial {
            Some(on_trial) => drop(active_versions.canaries.insert(plugin.clone(), on_trial)),
            None => drop(active_versions.canaries.remove(plugin)),
        });
    }

    /// Retires a former canary, unless it was promoted or its new state was already reported.
    fn leave_trial(&mut self, old: &Version) {
        if self.catalog.history.state(&old.plugin, old.digest) == Some(VersionState::Canary) {
            self.retire(old);
        }
    }

    fn reject(&mut self, plugin: &PluginName, digest: Digest, reason: &str) {
        let reason = shown(reason, Limits::DEFAULT.text_bytes);
        self.block(plugin, &format!("rejected: {reason}"));
        if self.catalog.active(plugin).is_some_and(|active| active.digest == digest) {
            self.catalog.change_active_versions(|active_versions| {
                active_versions.active.remove(plugin);
            });
        }
        let now = self.catalog.config.clock.now();
        let rejected = |result: &LoadResult| result.record(plugin, VersionState::Rejected(reason), now);
        let rejected = self.result(plugin, digest).map(rejected);
        match rejected.and_then(|rejected| self.catalog.history.record(rejected)) {
            Some(version) => self.report.rejected.push(version),
            None => self.report.unchanged += 1,
        }
    }

    /// The active version stays active.
    fn block(&self, plugin: &PluginName, reason: &str) {
        self.catalog.change_active_versions(|active_versions| {
            active_versions.blocked.insert(plugin.clone(), reason.to_owned());
        });
    }

    fn deactivate(&mut self, plugin: &PluginName) {
        if let Some(active) = self.catalog.active(plugin) {
            self.retire(&active);
        }
        self.catalog.change_active_versions(|active_versions| {
            active_versions.active.remove(plugin);
        });
    }

    fn retire(&mut self, old: &Version) {
        let changed = self.record(old, VersionState::Retired);
        self.report.retired.extend(changed);
    }

    /// Returns the version if the state is new.
    fn record(&self, version: &Version, state: VersionState) -> Option<PluginVersion> {
        self.catalog.history.record(version.record(state, self.catalog.config.clock.now()))
    }

    /// Ends the scan. Compilations that it did not request are cancelled.
    pub fn end(mut self) -> ScanReport {
        self.report.loading = !self.now.running.is_empty();
        *self.last = self.now;
        self.catalog.trouble.store(Arc::new(self.report.trouble.clone()));
        self.report
    }

    /// Activates each usable file of the folder: without a store there is no release state.
    pub async fn activate_all(mut self) -> ScanReport {
        let plugins: BTreeSet<PluginName> = self.in_use().union(&self.in_folder).cloned().collect();
        for plugin in plugins {
            let in_folder = self.in_folder.contains(&plugin);
            let mut facts = Facts { in_folder, ..Facts::default() };
            let mut done = 0;
            while let Some(step) = plan(&facts).into_iter().nth(done) {
                match step {
                    Step::LoadFile => facts.file = Some(self.load_file(&plugin).await.load),
                    Step::LoadKept(digest) => drop(facts.kept.insert(digest, Load::InProgress)),
                    Step::Check(digest) => {
                        drop(facts.checks.insert(digest, self.check(&plugin, digest).await));
                    }
                    Step::Propose(..) => facts.decision = Some(Ok(Decision::Stable)),
                    Step::Apply(change) => self.apply(&plugin, change),
                }
                done += 1;
            }
        }
        self.end()
    }
}

/// Compiles and describes the file.
fn load(
    catalog: &Catalog,
    file: PluginFile,
    tries_left: Option<u32>,
) -> impl Future<Output = LoadResult> + Send + use<> {
    let signatures = &catalog.config.signatures;
    let unsigned = signatures.refuse(&file.bytes, file.signature.as_deref());
    let refused = unsigned.clone().filter(|_| signatures.policy == Policy::Required);
    let held = catalog.active_versions().holds(&file.plugin, file.digest);
    let loader = catalog.loader.clone();
    async move {
        let (digest, size_bytes, signature) = (file.digest, file.bytes.len() as u64, file.signature.clone());
        let loaded = match (refused, held) {
            (Some(why), _) => Err(Refusal::from(why)),
            (None, Some(version)) => Ok(version),
            (None, None) => {
                let version = async move { loader.load(file).await.map(Arc::new) };
                // A panic of the host rejects only this version.
                let version = AbortOnDropHandle::new(tokio::spawn(version)).await;
                version.unwrap_or_else(|panic| Err(Refusal::from(format!("the host failed: {panic}"))))
            }
        };
        let is_temporary = loaded.as_ref().is_err_and(|refusal| refusal.temporary);
        let tries_left = if is_temporary { tries_left.unwrap_or(TRIES_MAX) - 1 } else { 0 };
        let loaded = loaded.map_err(|refusal| refusal.reason);
        LoadResult { digest, size_bytes, signature, unsigned, loaded, tries_left }
    }
}

fn warning(catalog: &Catalog, folder: &Folder) -> Option<String> {
    let dir = catalog.config.plugins_dir.display();
    folder.is_open_to_all().is_ok_and(|open| open).then(|| {
        format!(
            "every user of this machine may put a plugin into {dir}: remove that permission (chmod o-w {dir})"
        )
    })
}
