//! Which version of each plugin runs. A rescan reads the folder whole and goes by the bytes' digest;
//! what it decides becomes visible by one pointer, and attempts that run keep what they started with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use domain::id::{Digest, PluginName};
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::{PluginVersion, VersionState};

use crate::compile::Refusal;
use crate::component::{StatementCheck, Version, Workshop};
use crate::config::SandboxConfig;
use crate::convert::shown;
use crate::folder::{Folder, Listing, PluginFile};
use crate::history::{Facts, History};
use crate::signature::Policy;

/// How often bytes are tried that failed for a reason that may pass; a look is 30 s after the other, or sooner.
const TRIES_MAX: u32 = 5;

/// What a rescan changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    pub activated: Vec<PluginVersion>,
    /// Newly so, or for another reason than before.
    pub rejected: Vec<PluginVersion>,
    pub retired: Vec<PluginVersion>,
    pub unchanged: usize,
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

/// Versions beside those in the folder: a person may have decided for one of them.
#[async_trait]
pub trait KeptVersions: Send + Sync {
    /// Called for each version that is whole, before it is decided whether it runs.
    async fn keep(&self, file: &PluginFile);
    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String>;
}

/// Which versions run whatever the folder holds.
#[derive(Clone, Default)]
pub struct Pins {
    pub wanted: BTreeMap<PluginName, Digest>,
    pub versions: Option<Arc<dyn KeptVersions>>,
}

pub struct Catalog {
    config: SandboxConfig,
    workshop: Workshop,
    statements: Option<Arc<dyn StatementCheck>>,
    shelf: ArcSwap<Shelf>,
    history: History,
    trouble: ArcSwap<Trouble>,
    /// What the folder held at the last rescan. Held through a rescan: there is one at a time.
    present: tokio::sync::Mutex<BTreeMap<PluginName, Seen>>,
}

#[derive(Clone, Default)]
struct Shelf {
    active: BTreeMap<PluginName, Arc<Version>>,
    /// Why the plugin's file is not what runs.
    blocked: BTreeMap<PluginName, String>,
}

/// What became of a file's bytes; it holds as long as they stay the same.
/// What is to run of a plugin.
enum Wanted {
    File(PluginFile),
    Seen(Seen),
}

#[derive(Clone)]
struct Seen {
    digest: Digest,
    size_bytes: u64,
    signature: Option<String>,
    /// Why nobody trusted has signed it.
    unsigned: Option<String>,
    loaded: Result<Arc<Version>, String>,
    /// How often it may still be tried: none, unless it is not these bytes' fault that it failed.
    tries_left: u32,
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
            workshop,
            statements,
            shelf: ArcSwap::default(),
            history,
            trouble: ArcSwap::default(),
            present: tokio::sync::Mutex::default(),
        }
    }

    pub fn active(&self, plugin: &PluginName) -> Option<Arc<Version>> {
        self.shelf.load().active.get(plugin).cloned()
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

    pub async fn rescan(&self, jobs: &[Arc<JobSpec>], pins: &Pins) -> ScanReport {
        let mut present = self.present.lock().await;
        let report = self.take_over(&mut present, jobs, pins).await;
        self.trouble.store(Arc::new(report.trouble.clone()));
        report
    }

    async fn take_over(
        &self,
        present: &mut BTreeMap<PluginName, Seen>,
        jobs: &[Arc<JobSpec>],
        pins: &Pins,
    ) -> ScanReport {
        let mut report = ScanReport::default();
        let (folder, listing) = match self.open().await {
            Ok(opened) => opened,
            Err(e) => {
                let dir = self.config.plugins_dir.display();
                report.trouble.problem = Some(format!("cannot read the plugins folder {dir}: {e}"));
                return report;
            }
        };
        let skipped = |(file, reason)| Skipped { file, reason };
        report.trouble.skipped = listing.misnamed.into_iter().map(skipped).collect();
        let mut found = BTreeSet::new();
        report.trouble.warning = self.warning(&folder);
        let pinned = pins.wanted.keys().filter(|plugin| !listing.plugins.contains(plugin)).cloned();
        let plugins: Vec<PluginName> = listing.plugins.iter().cloned().chain(pinned).collect();
        for plugin in plugins {
            found.insert(plugin.clone());
            let file = match pins.wanted.get(&plugin) {
                Some(digest) => self.pinned(present.get(&plugin), &plugin, *digest, pins).await,
                None => self.read(&folder, &plugin).await.map(Wanted::File),
            };
            match file {
                Ok(wanted) => {
                    let seen = match wanted {
                        Wanted::Seen(seen) => seen,
                        Wanted::File(file) => self.see(present.get(&plugin), file, pins).await,
                    };
                    if let Some(reason) = seen.unsigned.clone().filter(|_| seen.loaded.is_ok()) {
                        report.trouble.unsigned.push(Skipped { file: format!("{plugin}.wasm"), reason });
                    }
                    present.insert(plugin.clone(), seen.clone());
                    self.judge(&plugin, &seen, jobs, &mut report).await;
                }
                Err(reason) => {
                    self.block(&plugin, &reason, None);
                    report.trouble.skipped.push(Skipped { file: format!("{plugin}.wasm"), reason });
                }
            }
        }
        present.retain(|plugin, _| found.contains(plugin));
        self.retire_missing(&found, &mut report);
        report
    }

    async fn open(&self) -> std::io::Result<(Arc<Folder>, Listing)> {
        let dir = self.config.plugins_dir.clone();
        let open = move || {
            let folder = Folder::open(&dir)?;
            let listing = folder.list()?;
            Ok((Arc::new(folder), listing))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }

    fn warning(&self, folder: &Folder) -> Option<String> {
        let dir = self.config.plugins_dir.display();
        folder.is_open_to_all().is_ok_and(|open| open).then(|| {
            format!(
                "everyone on this machine may put a plugin into {dir}: take that right away (chmod o-w {dir})"
            )
        })
    }

    async fn read(&self, folder: &Arc<Folder>, plugin: &PluginName) -> Result<PluginFile, String> {
        let (folder, plugin, bytes_max) = (folder.clone(), plugin.clone(), self.config.component_bytes_max);
        let read = tokio::task::spawn_blocking(move || folder.read(&plugin, bytes_max));
        read.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Compiles and describes the file, unless these bytes have been through that already.
    async fn see(&self, before: Option<&Seen>, file: PluginFile, pins: &Pins) -> Seen {
        let (digest, size_bytes, signature) = (file.digest, file.bytes.len() as u64, file.signature.clone());
        let before = before.filter(|seen| seen.digest == digest && seen.signature == signature);
        if let Some(seen) = before.filter(|seen| seen.tries_left == 0) {
            return seen.clone();
        }
        let signatures = &self.config.signatures;
        let unsigned = signatures.refuse(&file.bytes, signature.as_deref());
        if let Some(why) = unsigned.clone().filter(|_| signatures.policy == Policy::Required) {
            return Seen { digest, size_bytes, signature, unsigned, loaded: Err(why), tries_left: 0 };
        }
        let active = self.active(&file.plugin).filter(|version| version.digest == digest);
        let loaded = match active {
            Some(version) => Ok(version),
            None => self.load(file, pins).await,
        };
        let passing = loaded.as_ref().is_err_and(|refusal| refusal.passing);
        let tries_left = if passing { before.map_or(TRIES_MAX, |seen| seen.tries_left) - 1 } else { 0 };
        let loaded = loaded.map_err(|refusal| refusal.reason);
        Seen { digest, size_bytes, signature, unsigned, loaded, tries_left }
    }

    async fn load(&self, file: PluginFile, pins: &Pins) -> Result<Arc<Version>, Refusal> {
        let loaded = self.workshop.load(file.clone()).await.map(Arc::new);
        if let (Ok(_), Some(versions)) = (&loaded, &pins.versions) {
            versions.keep(&file).await;
        }
        loaded
    }

    /// What a person decided for; its bytes are asked for once.
    async fn pinned(
        &self,
        before: Option<&Seen>,
        plugin: &PluginName,
        digest: Digest,
        pins: &Pins,
    ) -> Result<Wanted, String> {
        if let Some(seen) = before.filter(|seen| seen.digest == digest && seen.tries_left == 0) {
            return Ok(Wanted::Seen(seen.clone()));
        }
        let versions = pins.versions.as_ref().ok_or("no versions are kept")?;
        versions.kept(plugin, digest).await.map(Wanted::File)
    }

    /// Whether this version runs from now on, stays what runs, or is refused.
    async fn judge(&self, plugin: &PluginName, seen: &Seen, jobs: &[Arc<JobSpec>], report: &mut ScanReport) {
        let active = self.active(plugin);
        let runs = active.as_ref().is_some_and(|version| version.digest == seen.digest);
        let judged = match &seen.loaded {
            Ok(version) => match self.refusal(version, jobs, runs).await {
                Some(reason) => Err(reason),
                None => Ok(version),
            },
            Err(reason) => Err(reason.clone()),
        };
        match judged {
            Ok(version) if runs => {
                self.unblock(version);
                report.unchanged += 1;
            }
            Ok(version) => {
                self.unblock(version);
                if let Some(old) = active {
                    report.retired.extend(self.history.record(
                        plugin,
                        &Facts::of(&old),
                        VersionState::Retired,
                    ));
                }
                let state = VersionState::Active;
                report.activated.extend(self.history.record(plugin, &Facts::of(version), state));
            }
            Err(reason) => {
                let reason = shown(&reason, Limits::DEFAULT.text_bytes);
                self.block(plugin, &format!("rejected: {reason}"), Some(seen.digest));
                let facts = match &seen.loaded {
                    Ok(version) => Facts::of(version),
                    Err(_) => Facts {
                        digest: seen.digest,
                        size_bytes: seen.size_bytes,
                        said: ("", ""),
                        asks: String::new(),
                    },
                };
                match self.history.record(plugin, &facts, VersionState::Rejected(reason)) {
                    Some(version) => report.rejected.push(version),
                    None => report.unchanged += 1,
                }
            }
        }
    }

    /// Why a whole version may not run. The databases are asked once, before its first attempt.
    async fn refusal(&self, version: &Version, jobs: &[Arc<JobSpec>], runs: bool) -> Option<String> {
        let mut users = jobs.iter().filter(|job| job.plugin == version.plugin);
        if let Some(why) = users.find_map(|job| version.refused_by(job)) {
            return Some(why);
        }
        match &self.statements {
            Some(check) if !runs => version.refused_statement(check.as_ref()).await,
            _ => None,
        }
    }

    fn unblock(&self, version: &Arc<Version>) {
        self.change_shelf(|shelf| {
            shelf.blocked.remove(&version.plugin);
            shelf.active.insert(version.plugin.clone(), version.clone());
        });
    }

    /// The last good version goes on, unless it is the one that may not run any more.
    fn block(&self, plugin: &PluginName, reason: &str, digest: Option<Digest>) {
        self.change_shelf(|shelf| {
            shelf.blocked.insert(plugin.clone(), reason.to_owned());
            let stops = |version: &Arc<Version>| digest == Some(version.digest);
            if shelf.active.get(plugin).is_some_and(stops) {
                shelf.active.remove(plugin);
            }
        });
    }

    fn retire_missing(&self, found: &BTreeSet<PluginName>, report: &mut ScanReport) {
        let before = self.shelf.load_full();
        let gone = before.active.values().filter(|version| !found.contains(&version.plugin));
        for version in gone {
            let facts = Facts::of(version);
            report.retired.extend(self.history.record(&version.plugin, &facts, VersionState::Retired));
        }
        self.change_shelf(|shelf| {
            shelf.active.retain(|plugin, _| found.contains(plugin));
            shelf.blocked.retain(|plugin, _| found.contains(plugin));
        });
    }

    /// Only called under the lock of `present`.
    fn change_shelf(&self, change: impl FnOnce(&mut Shelf)) {
        let mut shelf = Shelf::clone(&self.shelf.load());
        change(&mut shelf);
        self.shelf.store(Arc::new(shelf));
    }
}
