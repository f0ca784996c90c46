//! Keeps the active versions in step with the plugins folder and the release state. One loop does it: it lists the
//! folder, reads the release state from the store, and follows the plan of each plugin, which loads versions,
//! proposes new ones to the store, and changes the active versions. Then it logs, records and publishes the
//! changes.

mod releases;
mod report;
mod trial;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::id::{Digest, PluginName};
use domain::release::plan::{Facts, LastScan, Load, Step, plan};
use engine::Engine;
use sandbox::{Loaded, Sandbox, Scan, ScanReport, Trouble};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::releases::ReleaseStates;
pub use self::releases::SharedVersions;
pub use self::trial::TrialLoop;
use self::watch::FolderWatch;

/// Nearly all plugins compile faster, and are activated by the scan that found them.
const LOAD_PATIENCE: Duration = Duration::from_secs(1);

/// Interval of the checks whether the release state has changed.
const STATES_PERIOD: Duration = Duration::from_secs(1);

pub struct ScanLoop {
    pub dir: PathBuf,
    pub sandbox: Arc<Sandbox>,
    pub engine: Arc<Engine>,
    pub versions: Arc<SharedVersions>,
    /// Requests an immediate scan.
    pub nudge: Arc<Notify>,
    pub stop: CancellationToken,
    /// `None` before the first scan.
    pub last_scan: Mutex<Option<BTreeMap<PluginName, LastScan>>>,
}

impl ScanLoop {
    pub async fn run(self: Arc<Self>) {
        self.keep_in_step().await;
        self.sandbox.stop_loading().await;
    }

    /// Runs until the stop.
    async fn keep_in_step(&self) {
        let mut watch = FolderWatch::new(&self.dir, &self.nudge);
        let mut trouble = Trouble::default();
        // The first scan waits for all files that it finds.
        let mut patience = None;
        let Some(mut states) = self.states().await else { return };
        loop {
            watch.renew();
            let began = Instant::now();
            let report = tokio::select! {
                _ = self.stop.cancelled() => return,
                report = self.scan(&states, patience) => report,
            };
            patience = Some(LOAD_PATIENCE);
            report::log_trouble(&report.trouble, &trouble);
            trouble.clone_from(&report.trouble);
            report::log_changes(&report);
            self.publish(&report).await;
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = self.nudge.notified() => watch.settle(began).await,
                _ = tokio::time::sleep(watch.rescan_period()) => {}
                _ = self.other_states(&states) => {}
                _ = self.sandbox.loaded(), if report.loading => {}
            }
            let Some(now) = self.states().await else { return };
            states = now;
        }
    }

    /// Returns the current release states, or `None` at the stop. While the store is unavailable it waits, and
    /// the versions stay unchanged.
    async fn states(&self) -> Option<ReleaseStates> {
        loop {
            if let Ok(states) = self.versions.states().await {
                return Some(states);
            }
            tokio::select! {
                _ = self.stop.cancelled() => return None,
                _ = tokio::time::sleep(STATES_PERIOD) => {}
            }
        }
    }

    /// Resolves when the release states have changed, on this or another host.
    async fn other_states(&self, states: &ReleaseStates) {
        loop {
            tokio::time::sleep(STATES_PERIOD).await;
            if self.versions.states().await.is_ok_and(|now| now != *states) {
                return;
            }
        }
    }

    /// Plans each plugin that has a file, a release state or an active version. `patience` bounds the wait for
    /// each compilation, but not for the store, which keeps the file of a new version.
    async fn scan(&self, states: &ReleaseStates, patience: Option<Duration>) -> ScanReport {
        let jobs = self.engine.jobs();
        let mut scan = match self.sandbox.scan(&jobs, patience).await {
            Ok(scan) => scan,
            Err(report) => return report,
        };
        let last = self.last_scan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut now = BTreeMap::new();
        let in_folder = scan.in_folder().clone();
        let others = &(&states.plugins() | &scan.in_use()) - &in_folder;
        for plugin in in_folder.iter().chain(&others) {
            let facts = Facts {
                in_folder: in_folder.contains(plugin),
                release: states.release(plugin),
                pin: states.pin(plugin).map(|pin| pin.digest),
                shared: self.versions.shared,
                on_trial: scan.is_on_trial(plugin),
                share: self.versions.canary().share,
                last: last.as_ref().map(|last| last.get(plugin).copied().unwrap_or_default()),
                ..Facts::default()
            };
            now.insert(plugin.clone(), self.follow_plan(&mut scan, plugin, facts).await);
        }
        *self.last_scan.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        scan.end()
    }

    async fn follow_plan(&self, scan: &mut Scan<'_>, plugin: &PluginName, mut facts: Facts<'_>) -> LastScan {
        let mut done = 0;
        while let Some(step) = plan(&facts).into_iter().nth(done) {
            match step {
                Step::LoadFile => {
                    let loaded = scan.load_file(plugin).await;
                    facts.file = Some(self.keep(loaded).await);
                }
                Step::LoadKept(digest) => {
                    facts.kept.insert(digest, self.load_kept(scan, plugin, digest).await);
                }
                Step::Check(digest) => {
                    facts.checks.insert(digest, scan.check(plugin, digest).await);
                }
                Step::Propose(digest, arrival) => {
                    facts.decision = match scan.proposal(plugin, digest) {
                        Some((version, wants)) => {
                            Some(self.versions.propose(&version, &wants, arrival).await)
                        }
                        None => Some(Err("it is not loaded".to_owned())),
                    };
                }
                Step::Apply(change) => scan.apply(plugin, change),
            }
            done += 1;
        }
        facts.remember()
    }

    /// Loads a version whose file the store keeps. The file is fetched once.
    async fn load_kept(&self, scan: &mut Scan<'_>, plugin: &PluginName, digest: Digest) -> Load {
        if scan.knows(plugin, digest) {
            return Load::Done(digest);
        }
        match self.versions.kept(plugin, digest).await {
            Ok(file) => self.keep(scan.load(file).await).await,
            Err(reason) => Load::Unavailable(reason),
        }
    }

    /// Keeps the file of a new version in the store, before the decision about it.
    async fn keep(&self, loaded: Loaded) -> Load {
        if let Some(file) = loaded.new {
            self.versions.keep(file).await;
        }
        loaded.load
    }

    /// Records the changes in the store, and publishes them.
    async fn publish(&self, report: &ScanReport) {
        if report::changed(report).next().is_none() {
            return;
        }
        // Read after the scan, which may have made decisions.
        let states = self.versions.states().await.unwrap_or_default();
        for version in report::changed(report) {
            let (host, now) = (self.engine.host_id(), self.versions.clock.now());
            let cause = states.cause(version);
            if let Err(error) = self.versions.store.plugins().put_version(version, host, &cause, now).await {
                tracing::warn!(plugin = %version.plugin, %error, "a version could not be recorded in the plugin's history");
            }
        }
        self.engine.plugins_changed();
    }
}
