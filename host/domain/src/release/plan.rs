//! The plan of a scan: which version of a plugin a host activates, and why.

use std::collections::BTreeMap;

use super::{Arrival, Decision, Release, Stage};
use crate::id::Digest;

/// The facts about one plugin in a scan of the plugins folder.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The folder has a file of this plugin.
    pub in_folder: bool,
    /// `None` if no version of the plugin was decided about.
    pub release: Option<&'a Release>,
    /// A person chose this version. It overrides the release state, and the folder.
    pub pin: Option<Digest>,
    /// Several hosts follow the same decisions: a version runs on all of them, even if a host's folder does
    /// not have it.
    pub shared: bool,
    /// A version of the plugin is on trial on this host.
    pub on_trial: bool,
    /// The share of the items that a version on trial gets.
    pub share: f64,
    /// `None` at the first scan of this host.
    pub last: Option<LastScan>,

    /// The result of [`Step::LoadFile`].
    pub file: Option<Load>,
    /// The results of [`Step::LoadKept`].
    pub kept: BTreeMap<Digest, Load>,
    /// The results of [`Step::Check`]: why a version is refused.
    pub checks: BTreeMap<Digest, Result<(), String>>,
    /// The result of [`Step::Propose`], or why there is none.
    pub decision: Option<Result<Decision, String>>,
}

/// The facts that the next scan needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastScan {
    /// The version in the folder, unless the plugin was pinned.
    pub file: Option<Digest>,
    pub pinned: bool,
    /// The stable version at the time when the plugin's file was removed. This host does not run it any more.
    pub removed: Option<Digest>,
}

/// The result of loading a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// The version, loaded or rejected: a check decides.
    Done(Digest),
    /// It is being compiled.
    InProgress,
    /// Its file cannot be read now.
    Unavailable(String),
}

/// A step of the plan for one plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Load the version in the folder.
    LoadFile,
    /// Load a version whose file the store keeps.
    LoadKept(Digest),
    /// Check a loaded version against the jobs that use it.
    Check(Digest),
    /// Ask the store for the decision about the version in the folder.
    Propose(Digest, Arrival),
    Apply(Change),
}

/// A change to the active versions of a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Activate(Digest),
    /// The version gets this share of the items.
    PutOnTrial(Digest, f64),
    EndTrial,
    /// The version waits until its compilation ends. The active version stays active.
    AwaitLoad,
    AwaitApproval(Digest),
    /// The version in the folder was replaced before, and stays inactive.
    Ignore(Digest),
    /// The version is not used, and why. It is deactivated if it is active.
    Reject(Digest, String),
    /// A problem with the plugin's file. The active version stays active.
    Block(String),
    /// A person took the plugin out of use.
    Disable,
    /// This host has no version of the plugin any more.
    Retire,
}

/// The steps for one plugin, in order. If the result of a step is not in the facts yet, it is the last step.
/// Additional facts add steps, and never change earlier ones.
pub fn plan(facts: &Facts<'_>) -> Vec<Step> {
    let mut planner = Planner { facts, steps: Vec::new() };
    let (Ok(()) | Err(End)) = planner.add_steps();
    planner.steps
}

impl Facts<'_> {
    /// The facts that the next scan of this plugin needs.
    pub fn remember(&self) -> LastScan {
        let last = self.last.unwrap_or_default();
        let file = match &self.file {
            Some(Load::Done(digest)) => Some(*digest),
            Some(_) => last.file,
            None => None,
        };
        let unpinned_now = last.pinned && self.file == Some(Load::InProgress);
        LastScan { file, pinned: self.pin.is_some() || unpinned_now, removed: self.removed() }
    }

    fn stable(&self) -> Option<Digest> {
        self.pin.or(self.release.and_then(|release| release.stable))
    }

    fn is_uploaded(&self) -> bool {
        self.release.is_some_and(|release| release.uploaded)
    }

    /// The stable version, if the plugin's file was removed while this host ran. Other hosts may keep running
    /// the version. This host runs it again after a restart, or when another version becomes stable.
    fn removed(&self) -> Option<Digest> {
        let stays = self.in_folder || self.pin.is_some() || self.is_uploaded();
        let stable = self.stable().filter(|_| !stays)?;
        let last = self.last.unwrap_or_default();
        (last.file.is_some() || last.removed == Some(stable)).then_some(stable)
    }

    /// Whether this host runs the stable version although its folder does not have it. On a single host, a
    /// stable version whose file was removed is not used, and one whose file was replaced is used until the
    /// decision about the new file.
    fn runs_kept(&self, file: Option<Digest>) -> bool {
        let is_unreadable = matches!(self.file, Some(Load::Unavailable(_)));
        let everywhere = self.shared || self.pin.is_some() || self.is_uploaded();
        (everywhere || file.is_some() || is_unreadable) && self.removed().is_none()
    }

    fn arrival(&self, file: Digest) -> Arrival {
        match self.last {
            None => Arrival::AtStart,
            Some(last) if last.pinned => Arrival::AtStart,
            Some(last) if last.file == Some(file) => Arrival::Old,
            Some(_) => Arrival::Fresh,
        }
    }
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    steps: Vec<Step>,
}

/// The plan ends here: the result of the last step is not known, or nothing else may change.
struct End;

impl Planner<'_> {
    fn add_steps(&mut self) -> Result<(), End> {
        let facts = self.facts;
        if facts.pin.is_none() && facts.release.is_some_and(|release| release.stable.is_none()) {
            self.apply(Change::Disable);
        }
        let file = self.load_file()?;
        self.activate_stable(file)?;
        let on_trial = match self.propose(file)? {
            Some(version) => Some(version),
            None => self.candidate(file)?,
        };
        match on_trial {
            Some(version) => self.apply(Change::PutOnTrial(version, facts.share)),
            None if facts.on_trial => self.apply(Change::EndTrial),
            None => {}
        }
        if let Some(Load::Unavailable(reason)) = &facts.file {
            self.apply(Change::Block(reason.clone()));
        }
        if !self.has_version() {
            self.apply(Change::Retire);
        }
        Ok(())
    }

    /// Returns the version in the folder. The file of a pinned plugin is not read.
    fn load_file(&mut self) -> Result<Option<Digest>, End> {
        if !self.facts.in_folder || self.facts.pin.is_some() {
            return Ok(None);
        }
        self.steps.push(Step::LoadFile);
        match self.facts.file.as_ref().ok_or(End)? {
            Load::Done(digest) => return Ok(Some(*digest)),
            Load::InProgress => self.apply(Change::AwaitLoad),
            Load::Unavailable(_) => {}
        }
        Ok(None)
    }

    fn activate_stable(&mut self, file: Option<Digest>) -> Result<(), End> {
        let Some(stable) = self.facts.stable() else { return Ok(()) };
        let is_loaded = file == Some(stable) || (self.facts.runs_kept(file) && self.load_kept(stable)?);
        if is_loaded && self.check(stable)? {
            self.apply(Change::Activate(stable));
        }
        Ok(())
    }

    /// Follows the decision about a file that is not the stable version. Returns the version if its trial begins
    /// or continues.
    fn propose(&mut self, file: Option<Digest>) -> Result<Option<Digest>, End> {
        let Some(version) = file.filter(|file| self.facts.stable() != Some(*file)) else { return Ok(None) };
        if !self.check(version)? {
            return Ok(None);
        }
        self.steps.push(Step::Propose(version, self.facts.arrival(version)));
        let change = match self.facts.decision.clone().ok_or(End)? {
            Ok(Decision::On(Stage::Canary)) => return Ok(Some(version)),
            Ok(Decision::On(Stage::Waiting)) => Change::AwaitApproval(version),
            Ok(Decision::Stable) => Change::Activate(version),
            Ok(Decision::Replaced) => Change::Ignore(version),
            Ok(Decision::Quarantined(reason)) => Change::Reject(version, reason),
            Err(reason) => {
                self.apply(Change::Block(reason));
                return Err(End);
            }
        };
        self.apply(change);
        Ok(None)
    }

    /// Returns the version on trial, if it is not the one in the folder.
    fn candidate(&mut self, file: Option<Digest>) -> Result<Option<Digest>, End> {
        let candidate = self.facts.release.and_then(|release| release.candidate.as_ref());
        let on_trial = candidate.filter(|candidate| candidate.stage == Stage::Canary);
        let Some(version) = on_trial.map(|candidate| candidate.digest) else { return Ok(None) };
        if self.facts.pin.is_some() || !self.has_version() || file == Some(version) {
            return Ok(None);
        }
        let is_usable = self.load_kept(version)? && self.check(version)?;
        Ok(is_usable.then_some(version))
    }

    fn has_version(&self) -> bool {
        self.facts.in_folder || (self.facts.stable().is_some() && self.facts.runs_kept(None))
    }

    /// Returns `false` while the version is being compiled.
    fn load_kept(&mut self, version: Digest) -> Result<bool, End> {
        self.steps.push(Step::LoadKept(version));
        match self.facts.kept.get(&version).ok_or(End)? {
            Load::Done(_) => Ok(true),
            Load::InProgress => {
                self.apply(Change::AwaitLoad);
                Ok(false)
            }
            Load::Unavailable(reason) => {
                self.apply(Change::Block(reason.clone()));
                Err(End)
            }
        }
    }

    /// Returns whether the version may run.
    fn check(&mut self, version: Digest) -> Result<bool, End> {
        self.steps.push(Step::Check(version));
        match self.facts.checks.get(&version).ok_or(End)? {
            Ok(()) => Ok(true),
            Err(reason) => {
                self.apply(Change::Reject(version, reason.clone()));
                Ok(false)
            }
        }
    }

    fn apply(&mut self, change: Change) {
        self.steps.push(Step::Apply(change));
    }
}
