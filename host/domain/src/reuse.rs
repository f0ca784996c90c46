//! Reuse of a plugin's instance by the items of one claim (`isolation = "batch"`).
//!
//! A claim never keeps more instances than it has items that have not started. The host has set aside a slot
//! and memory for each of those items, so a kept instance needs no more of either, and no instance outlives
//! the start of the claim's last item.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most instances that one claim keeps. A host runs as many short attempts at the same time as it has cores.
pub const KEPT_PER_CLAIM_MAX: usize = 16;

/// An instance, of a type that only its runner knows.
pub type Kept = Box<dyn Any + Send>;

#[derive(Default)]
struct Claim {
    /// Items that have not started.
    waiting: usize,
    kept: Vec<Kept>,
}

/// The access of one item to the instances of its claim.
pub struct ClaimShare {
    claim: Arc<Mutex<Claim>>,
    started: bool,
}

impl ClaimShare {
    /// One share for each of the items that were claimed together.
    pub fn of(items: usize) -> Vec<ClaimShare> {
        let claim = Arc::new(Mutex::new(Claim { waiting: items, kept: Vec::new() }));
        (0..items).map(|_| ClaimShare { claim: claim.clone(), started: false }).collect()
    }

    /// Starts the item, and takes an instance that an earlier item left.
    pub fn start(&mut self) -> Option<Kept> {
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        let mut claim = self.claim();
        claim.waiting = claim.waiting.saturating_sub(1);
        claim.kept.pop()
    }

    /// Keeps an instance for an item that has not started, or drops it if there is none.
    pub fn keep(&self, instance: Kept) {
        let mut claim = self.claim();
        if claim.kept.len() < claim.waiting.min(KEPT_PER_CLAIM_MAX) {
            claim.kept.push(instance);
            return;
        }
        // Dropping an instance takes time that others would wait for.
        drop(claim);
        drop(instance);
    }

    fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClaimShare {
    /// An item may end without a start, if the host lost its lease. Its memory is then returned, so the claim
    /// keeps one instance less if each waiting item has one.
    fn drop(&mut self) {
        if self.started {
            return;
        }
        let mut claim = self.claim();
        claim.waiting = claim.waiting.saturating_sub(1);
        let left = claim.waiting.min(claim.kept.len());
        let surplus = claim.kept.split_off(left);
        drop(claim);
        drop(surplus);
    }
}
