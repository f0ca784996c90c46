//! One scan of the plugins folder: reads the files, loads their versions, and applies the decisions on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::VersionState;

use super::active_versions::OnTrial;
use super::loads::Loads;
use super::seen::Seen;
use super::{Catalog, ScanReport, Skipped};
use crate::guest::convert::shown;
use crate::versions::component::Version;
use crate::versions::decided::{Answer, Arrival, Decided, Proposal, Standing};
use crate::versions::folder::{Folder, Listing};
use crate::versions::history::Facts;

mod sight;

/// The result of the last scan.
#[derive(Default)]
pub struct Present {
    seen: BTreeMap<(PluginName, Digest), Seen>,
    /// `None` before the first scan.
    folder: Option<BTreeMap<PluginName, Digest>>,
    /// Plugins whose file was removed while this host ran, with the stable version at that time. This host
    /// does not run them any more.
    taken_away: BTreeMap<PluginName, Digest>,
    /// Pinned plugins, whose file was ignored.
    pinned: BTreeSet<PluginName>,
    pub loads: Loads,
}

pub struct Round<'a> {
    catalog: &'a Catalog,
    jobs: &'a [Arc<JobSpec>],
    decided: &'a Decided,
    /// How long to wait for compilations. `None` is unlimited.
    patience: Option<Duration>,
    present: &'a mut Present,
    /// The result of this scan, which replaces `present`.
    now: Present,
    /// Plugins that have a version, or a file that is not a valid one.
    found: BTreeSet<PluginName>,
    report: ScanReport,
}

impl<'a> Round<'a> {
    pub fn new(
        catalog: &'a Catalog,
        jobs: &'a [Arc<JobSpec>],
        decided: &'a Decided,
        patience: Option<Duration>,
        present: &'a mut Present,
    ) -> Round<'a> {
        let now = Present { folder: Some(BTreeMap::new()), ..Present::default() };
        let (found, report) = (BTreeSet::new(), ScanReport::default());
        Round { catalog, jobs, decided, patience, present, now, found, report }
    }

    pub async fn run(mut self) -> ScanReport {
        let (folder, listing) = match self.open().await {
            Ok(opened) => opened,
            Err(e) => {
                let dir = self.catalog.config.plugins_dir.display();
                self.report.trouble.problem = Some(format!("cannot read the plugins folder {dir}: {e}"));
                return self.report;
            }
        };
        let skipped = |(file, reason)| Skipped { file, reason };
        self.report.trouble.skipped = listing.misnamed.into_iter().map(skipped).collect();
        self.report.trouble.warning = self.warning(&folder);
        let decided = self.decided.plugins.keys().filter(|plugin| !listing.plugins.contains(plugin));
        let plugins =
            listing.plugins.iter().map(|plugin| (plugin, true)).chain(decided.map(|plugin| (plugin, false)));
        for (plugin, listed) in plugins {
            if let Err(reason) = self.take_over(&folder, plugin, listed).await {
                self.block(plugin, &reason, None);
                self.report.trouble.skipped.push(Skipped { file: format!("{plugin}.wasm"), reason });
            }
        }
        self.report.loading = !self.now.loads.is_empty();
        *self.present = std::mem::take(&mut self.now);
        self.retire_missing();
        self.report
    }

    async fn open(&self) -> std::io::Result<(Arc<Folder>, Listing)> {
        let dir = self.catalog.config.plugins_dir.clone();
        let open = move || {
            let folder = Folder::open(&dir)?;
            let listing = folder.list()?;
            Ok((Arc::new(folder), listing))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }

    fn warning(&self, folder: &Folder) -> Option<String> {
        let dir = self.catalog.config.plugins_dir.display();
        folder.is_open_to_all().is_ok_and(|open| open).then(|| {
            format!(
                "every user of this machine may put a plugin into {dir}: remove that permission (chmod o-w {dir})"
            )
        })
    }

    /// Determines the version of one plugin. If anything fails, the active version stays active.
    async fn take_over(
        &mut self,
        folder: &Arc<Folder>,
        plugin: &PluginName,
        listed: bool,
    ) -> Result<(), String> {
        let standing = self.decided.plugins.get(plugin).cloned().unwrap_or_default();
        if listed {
            self.found.insert(plugin.clone());
        }
        if self.decided.plugins.contains_key(plugin) && standing.stable.is_none() {
            self.take_out(plugin);
        }
        if standing.pinned {
            self.now.pinned.insert(plugin.clone());
        }
        let (file, unread) = match listed && !standing.pinned {
            true => match self.file(folder, plugin).await {
                Ok(file) => (file, Ok(())),
                Err(reason) => (None, Err(reason)),
            },
            false => (None, Ok(())),
        };
        let proposed = file.as_ref().filter(|file| standing.stable != Some(file.digest));
        let everywhere = self.decided.shared || standing.pinned || standing.uploaded;
        let wanted = everywhere || proposed.is_some() || unread.is_err();
        match (standing.stable, &file) {
            (Some(stable), Some(file)) if file.digest == stable => self.judge(plugin, file).await,
            (Some(stable), _) if wanted && !self.is_taken_away(plugin, &standing, listed) => {
                self.found.insert(plugin.clone());
                if let Some(seen) = self.kept(plugin, stable).await? {
                    self.judge(plugin, &seen).await;
                }
            }
            _ => {}
        }
        let mut on_trial = match proposed {
            Some(file) => self.propose(plugin, file).await?,
            None => None,
        };
        if on_trial.is_none() && self.found.contains(plugin) {
            on_trial = self.candidate(plugin, &standing, file.as_ref()).await?;
        }
        self.put_on_trial(plugin, on_trial);
        unread
    }

    /// Whether the plugin's file was removed on this host. Other hosts may keep running the version. This
    /// host runs it again after a restart, or when another version becomes stable.
    fn is_taken_away(&mut self, plugin: &PluginName, standing: &Standing, listed: bool) -> bool {
        let stays = listed || standing.pinned || standing.uploaded;
        let (Some(stable), false) = (standing.stable, stays) else { return false };
        let was_there = self.present.folder.as_ref().is_some_and(|folder| folder.contains_key(plugin));
        let taken_away = was_there || self.present.taken_away.get(plugin) == Some(&stable);
        if taken_away {
            self.now.taken_away.insert(plugin.clone(), stable);
        }
        taken_away
    }

    /// Returns the version if it is loaded and these jobs accept it. Otherwise reports why it is rejected.
    async fn fit(&mut self, plugin: &PluginName, seen: &Seen) -> Option<Arc<Version>> {
        let refused = match &seen.loaded {
            Ok(version) => match self.catalog.refusal(version, self.jobs).await {
                None => return Some(version.clone()),
                Some(reason) => reason,
            },
            Err(reason) => reason.clone(),
        };
        self.reject(plugin, seen, &refused);
        None
    }

    /// Activates the version, keeps it if it is already active, or rejects it.
    async fn judge(&mut self, plugin: &PluginName, seen: &Seen) {
        if let Some(version) = self.fit(plugin, seen).await {
            self.activate(&version);
        }
    }

    /// Asks for the decision on a file that is not the stable version.
    async fn propose(&mut self, plugin: &PluginName, seen: &Seen) -> Result<Option<OnTrial>, String> {
        let Some(version) = self.fit(plugin, seen).await else { return Ok(None) };
        let Some(versions) = self.decided.versions.clone() else {
            self.activate(&version);
            return Ok(None);
        };
        let facts = Facts::of(&version);
        let before = self.catalog.active(plugin).map(|active| active.asks());
        let wants = before.map_or_else(Vec::new, |before| version.asks().beyond(&before));
        let arrival = match &self.present.folder {
            None => Arrival::AtStart,
            Some(_) if self.present.pinned.contains(plugin) => Arrival::AtStart,
            Some(folder) if folder.get(plugin) == Some(&version.digest) => Arrival::Old,
            Some(_) => Arrival::Fresh,
        };
        let known = self.catalog.history.version(plugin, &facts, VersionState::Waiting(wants.join("\n")));
        let proposal = Proposal { version: &known, wants, arrival };
        match versions.propose(proposal).await? {
            Answer::Run => self.activate(&version),
            Answer::Try(share) => return Ok(Some(OnTrial { version, share })),
            Answer::Wait => {
                let told = self.catalog.history.record(plugin, &facts, known.state);
                self.report.on_trial.extend(told);
            }
            Answer::Leave => self.report.unchanged += 1,
            Answer::Refuse(reason) => self.reject(plugin, seen, &reason),
        }
        Ok(None)
    }

    /// A candidate that another host found.
    async fn candidate(
        &mut self,
        plugin: &PluginName,
        standing: &Standing,
        file: Option<&Seen>,
    ) -> Result<Option<OnTrial>, String> {
        let Some(candidate) = standing.candidate.filter(|_| !standing.pinned) else { return Ok(None) };
        if file.is_some_and(|file| file.digest == candidate.digest) {
            return Ok(None);
        }
        let Some(share) = candidate.share else { return Ok(None) };
        let Some(seen) = self.kept(plugin, candidate.digest).await? else { return Ok(None) };
        let version = self.fit(plugin, &seen).await;
        Ok(version.map(|version| OnTrial { version, share }))
    }

    fn activate(&mut self, version: &Arc<Version>) {
        let plugin = &version.plugin;
        let old = self.catalog.active(plugin);
        self.catalog.change_shelf(|active_versions| {
            active_versions.blocked.remove(plugin);
            active_versions.active.insert(plugin.clone(), version.clone());
        });
        if old.as_ref().is_some_and(|old| old.digest == version.digest) {
            self.report.unchanged += 1;
            return;
        }
        if let Some(old) = old {
            self.retire(&old);
        }
        let told = self.catalog.history.record(plugin, &Facts::of(version), VersionState::Active);
        self.report.activated.extend(told);
    }

    /// Sets the plugin's canary, or removes it.
    fn put_on_trial(&mut self, plugin: &PluginName, on_trial: Option<OnTrial>) {
        let before = self.catalog.active_versions().canaries.get(plugin).map(|canary| canary.version.clone());
        if let Some(OnTrial { version, .. }) = &on_trial {
            let told = self.catalog.history.record(plugin, &Facts::of(version), VersionState::Canary);
            self.report.on_trial.extend(told);
        }
        let goes_on =
            |old: &Arc<Version>| on_trial.as_ref().is_some_and(|new| new.version.digest == old.digest);
        if let Some(old) = before.filter(|old| !goes_on(old)) {
            self.leave_trial(&old);
        }
        self.catalog.change_shelf(|active_versions| match on_trial {
            Some(on_trial) => drop(active_versions.canaries.insert(plugin.clone(), on_trial)),
            None => drop(active_versions.canaries.remove(plugin)),
        });
    }

    /// Retires a former canary, unless it was promoted or its new state was already reported.
    fn leave_trial(&mut self, old: &Arc<Version>) {
        if self.catalog.history.state(&old.plugin, old.digest) == Some(VersionState::Canary) {
            self.retire(old);
        }
    }

    fn retire(&mut self, old: &Arc<Version>) {
        let told = self.catalog.history.record(&old.plugin, &Facts::of(old), VersionState::Retired);
        self.report.retired.extend(told);
    }

    fn reject(&mut self, plugin: &PluginName, seen: &Seen, reason: &str) {
        let reason = shown(reason, Limits::DEFAULT.text_bytes);
        self.block(plugin, &format!("rejected: {reason}"), Some(seen.digest));
        match self.catalog.history.record(plugin, &seen.facts(), VersionState::Rejected(reason)) {
            Some(version) => self.report.rejected.push(version),
            None => self.report.unchanged += 1,
        }
    }

    /// The active version stays active, unless it is the blocked one.
    fn block(&self, plugin: &PluginName, reason: &str, digest: Option<Digest>) {
        self.catalog.change_shelf(|active_versions| {
            active_versions.blocked.insert(plugin.clone(), reason.to_owned());
            let stops = |version: &Arc<Version>| digest == Some(version.digest);
            if active_versions.active.get(plugin).is_some_and(stops) {
                active_versions.active.remove(plugin);
            }
        });
    }

    /// Deactivates a plugin that a person disabled.
    fn take_out(&mut self, plugin: &PluginName) {
        if let Some(active) = self.catalog.active(plugin) {
            self.retire(&active);
        }
        self.catalog.change_shelf(|active_versions| {
            active_versions.active.remove(plugin);
            active_versions.blocked.insert(plugin.clone(), "it was taken out of use".to_owned());
        });
    }

    fn retire_missing(&mut self) {
        let active_versions = self.catalog.active_versions();
        for version in active_versions.active.values() {
            if !self.found.contains(&version.plugin) {
                self.retire(version);
            }
        }
        let found = &self.found;
        self.catalog.change_shelf(|active_versions| {
            active_versions.active.retain(|plugin, _| found.contains(plugin));
            active_versions.canaries.retain(|plugin, _| found.contains(plugin));
            active_versions.blocked.retain(|plugin, _| found.contains(plugin));
        });
    }
}
