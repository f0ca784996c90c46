//! Watches the plugins folder. The watch only requests a scan. A scan compares contents, and also runs
//! periodically in case a request was missed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A changed file may change again at once: wait until it has not changed for this time.
const REST: Duration = Duration::from_millis(50);
/// Then scan, even if it still changes.
const REST_MAX: Duration = Duration::from_millis(500);
/// A renamed file is complete, so it is scanned at once; but with many renames, at most once in this time.
const SCAN_REST: Duration = Duration::from_millis(250);
/// Interval of rescans without a request: events can be missed, and some file systems send none.
const RESCAN_PERIOD: Duration = Duration::from_secs(30);
/// The same while the folder cannot be watched.
const UNWATCHED_PERIOD: Duration = Duration::from_secs(2);

pub struct FolderWatch {
    dir: PathBuf,
    nudge: Arc<Notify>,
    /// Set when a file was renamed into the folder.
    renamed: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    /// The folder that is watched.
    watched: Option<(u64, u64)>,
}

impl FolderWatch {
    /// Requests scans by `nudge`, once [`FolderWatch::renew`] was called.
    pub fn new(dir: &Path, nudge: &Arc<Notify>) -> FolderWatch {
        let (dir, nudge) = (dir.to_owned(), nudge.clone());
        FolderWatch { dir, nudge, renamed: Arc::default(), watcher: None, watched: None }
    }

    /// Watches the folder that is now at the path. A watch stays with its folder, even if the folder is moved
    /// away and another one takes its name.
    pub fn renew(&mut self) {
        let folder = identity(&self.dir);
        if self.watcher.is_none() || folder != self.watched {
            self.watcher = watch(&self.dir, self.nudge.clone(), self.renamed.clone());
            self.watched = folder;
        }
    }

    pub fn rescan_period(&self) -> Duration {
        if self.watcher.is_some() { RESCAN_PERIOD } else { UNWATCHED_PERIOD }
    }

    /// Waits until no request has arrived for a moment, or until a file was renamed into the folder and is thus
    /// complete. Repeated renames are limited by `SCAN_REST`; `last_scan` is the time of the scan before.
    pub async fn settle(&self, last_scan: Instant) {
        let is_whole = || self.renamed.swap(false, Ordering::AcqRel) && last_scan.elapsed() >= SCAN_REST;
        let rested =
            async { while !is_whole() && tokio::time::timeout(REST, self.nudge.notified()).await.is_ok() {} };
        let _ = tokio::time::timeout(REST_MAX, rested).await;
    }
}

/// Identifies the folder that is now at this path.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino()))
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
