//! The claims that this process made and may still hold. It renews only these. Claims from before a restart,
//! and claims whose commit result was lost, are not renewed; they expire and are recovered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::{AttemptId, HostId, JobName};

#[derive(Debug, Default)]
pub(crate) struct HeldClaims(Mutex<BTreeMap<AttemptId, Taker>>);

#[derive(Debug)]
pub(crate) struct Taker {
    host: HostId,
    job: JobName,
    /// Whether its lease may have expired while the attempt continues.
    without_lease: bool,
}

impl HeldClaims {
    pub fn add(&self, host: HostId, job: &JobName, attempt: AttemptId) {
        self.lock().insert(attempt, Taker { host, job: job.clone(), without_lease: false });
    }

    pub fn of(&self, host: HostId) -> BTreeSet<AttemptId> {
        let taken = self.lock();
        let own = taken.iter().filter(|(_, taker)| taker.host == host);
        own.map(|(attempt, _)| *attempt).collect()
    }

    /// Of the claims in `asked`, keeps only those that are still `held`.
    pub fn keep(&self, asked: &BTreeSet<AttemptId>, held: &BTreeSet<AttemptId>) {
        self.lock().retain(|attempt, taker| {
            taker.without_lease &= !held.contains(attempt);
            held.contains(attempt) || !asked.contains(attempt)
        });
    }

    pub fn let_go(&self, attempt: AttemptId) {
        self.lock().remove(&attempt);
    }

    /// Called when leases cannot be renewed: drops the claims of these jobs, and marks the others as without
    /// a lease.
    pub fn let_lapse(&self, host: HostId, jobs: impl Fn(&JobName) -> bool) -> bool {
        let mut taken = self.lock();
        let before = taken.len();
        taken.retain(|_, taker| {
            let own = taker.host == host;
            taker.without_lease |= own;
            !(own && jobs(&taker.job))
        });
        taken.len() < before
    }

    pub fn without_lease(&self) -> Vec<AttemptId> {
        let taken = self.lock();
        taken.iter().filter(|(_, taker)| taker.without_lease).map(|(attempt, _)| *attempt).collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Taker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
