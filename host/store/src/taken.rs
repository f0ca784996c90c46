//! The claims that this process made and may still hold. Only these it renews: a claim that its former life made,
//! or one whose commit was not heard of, has nobody who works on it, and has to lapse to be found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::{AttemptId, HostId};

#[derive(Debug, Default)]
pub(crate) struct Taken(Mutex<BTreeMap<String, HostId>>);

impl Taken {
    pub fn add(&self, host: HostId, attempt: AttemptId) {
        self.lock().insert(attempt.to_string(), host);
    }

    pub fn of(&self, host: HostId) -> BTreeSet<String> {
        let taken = self.lock();
        let own = taken.iter().filter(|(_, taker)| **taker == host);
        own.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// Of those that were `asked` for, only the ones that are still `held` stay.
    pub fn keep(&self, asked: &BTreeSet<String>, held: &BTreeSet<String>) {
        self.lock().retain(|attempt, _| held.contains(attempt) || !asked.contains(attempt));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
