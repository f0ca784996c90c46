//! Keeps the sandbox's versions in step with the plugins folder. The watcher only requests a rescan. The
//! rescan compares contents, and also runs periodically in case a request was missed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::job::JobSpec;
use engine::Engine;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sandbox::{Decided, Sandbox, ScanReport, Trouble};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::versions::{SharedVersions, Standings};

/// A changed file may change again at once: wait until it has not changed for this time.
const REST: Duration = Duration::from_millis(50);
/// Then scan, even if it still changes.
const REST_MAX: Duration = Duration::from_millis(500);
/// A renamed file is complete, so it is scanned at once; but with many renames, at most once in this time.
const LOOK_REST: Duration = Duration::from_millis(250);
/// Interval of rescans without a request: events can be missed, and some file systems send none.
const RESCAN_PERIOD: Duration = Duration::from_secs(30);
/// The same while the folder cannot be watched.
const UNWATCHED_PERIOD: Duration = Duration::from_secs(2);

/// Interval of the checks whether another version was selected.
const STANDINGS_PERIOD: Duration = Duration::from_secs(1);

pub struct HotReload {
    pub dir: PathBuf,
    pub sandbox: Arc<Sandbox>,
    pub engine: Arc<Engine>,
    pub versions: Arc<SharedVersions>,
    /// Requests an immediate scan.
    pub nudge: Arc<Notify>,
    pub stop: CancellationToken,
}

impl HotReload {
    pub async fn run(self: Arc<Self>) {
        self.keep_in_step(&self.dir).await;
        self.sandbox.stop_loading().await;
    }

    /// Runs until the stop.
    async fn keep_in_step(&self, plugins_dir: &Path) {
        let (nudge, renamed) = (self.nudge.clone(), Arc::new(AtomicBool::new(false)));
        let mut watcher = None;
        let mut watched = None;
        let mut before = Trouble::default();
        let mut first = true;
        let Some(mut standings) = self.standings().await else { return };
        loop {
            // A watch stays with its folder, even if the folder is moved away and another one takes its name.
            let folder = identity(plugins_dir);
            if watcher.is_none() || folder != watched {
                watcher = watch(plugins_dir, nudge.clone(), renamed.clone());
                watched = folder;
            }
            let looked_at = Instant::now();
            let (jobs, decided) = (self.engine.jobs(), self.versions.decided(&standings));
            let report = tokio::select! {
                _ = self.stop.cancelled() => return,
                report = self.look(&jobs, &decided, first) => report,
            };
            first = false;
            tell_trouble(&report.trouble, &before);
            before.clone_from(&report.trouble);
            self.tell(&report).await;
            let period = if watcher.is_some() { RESCAN_PERIOD } else { UNWATCHED_PERIOD };
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = nudge.notified() => settle(&nudge, &renamed, looked_at).await,
                _ = tokio::time::sleep(period) => {}
                _ = self.other_standings(&standings) => {}
                _ = self.sandbox.loaded(), if report.loading => {}
            }
            let Some(now) = self.standings().await else { return };
            standings = now;
        }
    }

    /// The first scan waits for all files that it finds.
    async fn look(&self, jobs: &[Arc<JobSpec>], decided: &Decided, first: bool) -> ScanReport {
        match first {
            true => self.sandbox.rescan(jobs, decided).await,
            false => self.sandbox.look(jobs, decided).await,
        }
    }

    /// Returns the current release decisions, or `None` at the stop. While the store is unavailable it waits,
    /// and the versions stay unchanged.
    async fn standings(&self) -> Option<Standings> {
        loop {
            if let Ok(standings) = self.versions.standings().await {
                return Some(standings);
            }
            tokio::select! {
                _ = self.stop.cancelled() => return None,
                _ = tokio::time::sleep(STANDINGS_PERIOD) => {}
            }
        }
    }

    /// Resolves when the release decisions have changed, on this or another host.
    async fn other_standings(&self, standings: &Standings) {
        loop {
            tokio::time::sleep(STANDINGS_PERIOD).await;
            if self.versions.standings().await.is_ok_and(|now| now != *standings) {
                return;
            }
        }
    }

    /// Logs, stores and publishes the changes.
    async fn tell(&self, report: &ScanReport) {
        for version in &report.activated {
            let (plugin, digest) = (&version.plugin, version.digest.short());
            tracing::info!(%plugin, %digest, version = %version.version, "plugin active");
        }
        for version in &report.retired {
            tracing::info!(plugin = %version.plugin, digest = %version.digest.short(), "plugin retired");
        }
        for version in &report.rejected {
            if let domain::plugin::VersionState::Rejected(reason) = &version.state {
                let (plugin, digest) = (&version.plugin, version.digest.short());
                tracing::error!(%plugin, %digest, %reason, "plugin rejected; nothing else changes");
            }
        }
        for version in &report.on_trial {
            let (plugin, digest, state) = (&version.plugin, version.digest.short(), version.state.word());
            let wants = version.state.reason().unwrap_or_default();
            tracing::warn!(%plugin, %digest, state, wants, "a new version does not replace the active one yet");
        }
        let changed =
            || report.activated.iter().chain(&report.on_trial).chain(&report.retired).chain(&report.rejected);
        if changed().next().is_none() {
            return;
        }
        // Read after the scan, which may have made decisions.
        let standings = self.versions.standings().await.unwrap_or_default();
        for version in changed() {
            let (host, now) = (self.engine.host_id(), self.versions.clock.now());
            let cause = standings.cause(version);
            if let Err(error) = self.versions.store.put_plugin_version(version, host, &cause, now).await {
                tracing::warn!(plugin = %version.plugin, %error, "a version could not be recorded in the plugin's history");
            }
        }
        self.engine.plugins_changed();
    }
}

/// Logs problems that the scan before did not have.
fn tell_trouble(now: &Trouble, before: &Trouble) {
    if let Some(problem) = now.problem.as_ref().filter(|_| now.problem != before.problem) {
        tracing::error!("{problem}");
    }
    if let Some(warning) = now.warning.as_ref().filter(|_| now.warning != before.warning) {
        tracing::warn!("{warning}");
    }
    for skipped in now.skipped.iter().filter(|skipped| !before.skipped.contains(skipped)) {
        tracing::warn!(file = %skipped.file, reason = %skipped.reason, "file skipped");
    }
    for unsigned in now.unsigned.iter().filter(|unsigned| !before.unsigned.contains(unsigned)) {
        tracing::warn!(file = %unsigned.file, reason = %unsigned.reason, "a plugin runs without a trusted signature");
    }
}

/// Identifies the folder that is now at this path.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Waits until no request has arrived for a moment, or until a file was renamed into the folder and is thus
/// complete. Repeated renames are limited by `LOOK_REST`.
async fn settle(nudge: &Notify, renamed: &AtomicBool, looked_at: Instant) {
    let whole = || renamed.swap(false, Ordering::AcqRel) && looked_at.elapsed() >= LOOK_REST;
    let rested = async { while !whole() && tokio::time::timeout(REST, nudge.notified()).await.is_ok() {} };
    let _ = tokio::time::timeout(REST_MAX, rested).await;
}

fn watch(folder: &Path, nudge: Arc<Notify>, renamed: Arc<AtomicBool>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<Event>| match event {
        Ok(event) if !matters(&event) => {}
        // An error may have hidden an event, so scan.
        event => {
            if event.is_ok_and(|event| {
                matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)))
            }) {
                renamed.store(true, Ordering::Release);
            }
            nudge.notify_one();
        }
    };
    let watched = notify::recommended_watcher(on_event)
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
    watched
        .inspect_err(|error| {
            tracing::debug!(folder = %folder.display(), %error, "the folder cannot be watched; it is scanned every 2 s");
        })
        .ok()
}

/// The host's own reads are events, too, and would cause endless rescans.
fn matters(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
