//! Expected behaviour, as far as it can be stated without the code under test.

use std::collections::{BTreeMap, BTreeSet};

use domain::id::RunId;
use domain::item::Claimed;
use jiff::Timestamp;

/// The simulated business, and the observed work of the hosts on it.
#[derive(Default)]
pub struct Model {
    /// Business objects that need work: a discovery finds them.
    pub open: BTreeSet<String>,
    /// Items of acknowledged pages.
    pub acknowledged: BTreeSet<String>,
    pub offered: BTreeSet<String>,
    /// The newest epoch returned by any claim of an item, or of a run's discovery.
    newest: BTreeMap<String, i64>,
    newest_of_run: BTreeMap<RunId, (usize, i64)>,
    /// Earliest time of an item's next attempt, set at the end of its last one.
    due: BTreeMap<String, Timestamp>,
    /// Business commits without a written outcome (yet): their host died or lost the item between the two
    /// commits.
    pub alone: BTreeSet<(String, i64)>,
    /// Written outcomes.
    applied: BTreeSet<(String, i64)>,
    /// Claims that their host does not work on, with the end of their lease: they are not renewed any more.
    pub let_go: BTreeMap<String, i64>,
    pub violations: Vec<String>,
}

impl Model {
    pub fn violated(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub fn claimed(&mut self, item: &Claimed) {
        let newest = self.newest.entry(item.key.clone()).or_default();
        if item.epoch <= *newest {
            let what = format!("epoch {} of {} was given after {newest}", item.epoch, item.key);
            self.violations.push(what);
        }
        *newest = item.epoch.max(*newest);
        if let Some(due) =
            self.due.get(&item.key).filter(|due| item.claimed_at.as_millisecond() < due.as_millisecond())
        {
            let what = format!("{} began at {}, before it was due at {due}", item.key, item.claimed_at);
            self.violations.push(what);
        }
    }

    /// Returns a number for the run, because its id is random.
    pub fn run_claimed(&mut self, run: RunId, epoch: i64) -> usize {
        let next = self.newest_of_run.len();
        let (number, newest) = self.newest_of_run.entry(run).or_insert((next, 0));
        *newest = epoch.max(*newest);
        *number
    }

    pub fn page_accepted(&mut self, run: RunId, epoch: i64) {
        if self.newest_of_run.get(&run).is_some_and(|(_, newest)| epoch < *newest) {
            self.violated(format!("a page of run {run} was accepted of epoch {epoch}, which was taken away"));
        }
    }

    /// Records that an outcome was written, and when the item is due again, if it is. Only the first time counts.
    pub fn end_accepted(&mut self, key: &str, epoch: i64, due: Option<Timestamp>) {
        if !self.applied.insert((key.to_owned(), epoch)) {
            return;
        }
        if self.newest.get(key).is_some_and(|newest| epoch < *newest) {
            self.violated(format!("an outcome of {key} was accepted of epoch {epoch}, which was taken away"));
        }
        self.alone.remove(&(key.to_owned(), epoch));
        match due {
            Some(due) => self.due.insert(key.to_owned(), due),
            None => self.due.remove(key),
        };
    }

    /// Forgets the due time of an item after someone else changed it.
    pub fn due_is_open(&mut self, key: &str) {
        self.due.remove(key);
    }

    pub fn business_committed(&mut self, key: &str, epoch: i64) {
        if self.newest.get(key).is_some_and(|newest| epoch < *newest) {
            self.violated(format!(
                "a business commit of {key} was made under epoch {epoch}, which was taken away"
            ));
        }
        self.alone.insert((key.to_owned(), epoch));
    }

    /// Compares the leases of claims, by the id of the claim, with those at their host's last renewal.
    pub fn leases(&mut self, leases: &BTreeMap<String, i64>) {
        self.let_go.retain(|claim, _| leases.contains_key(claim));
        for (claim, until) in &mut self.let_go {
            let now = leases.get(claim).copied().unwrap_or_default();
            if now > *until {
                self.violations.push(format!("claim {claim} was renewed, and its host does not work on it"));
            }
            *until = now;
        }
    }

    /// Records that a guest got an answer.
    pub fn answered(&mut self, key: &str, epoch: i64) {
        if self.newest.get(key).is_some_and(|newest| epoch < *newest) {
            self.violated(format!(
                "a guest was answered for {key} under epoch {epoch}, which was taken away"
            ));
        }
    }
}
