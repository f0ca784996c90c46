//! Slots and guest memory of this host. Attempts of items and discoveries have separate pools, so
//! neither delays the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::fair::Capacity;
use domain::id::JobName;
use domain::job::JobSpec;
use jiff::Timestamp;
use store::config::COMMIT_BATCH_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::EngineConfig;

const MIB: usize = 1 << 20;

/// The fraction (one in so many) of a job's slots that has to be free before more items are claimed, while
/// other attempts run: each claim costs a transaction, whatever its size.
const REFILL_SHARE: usize = 4;

/// Guest memory of one attempt of the job, in MiB.
pub fn memory_of(job: &JobSpec) -> usize {
    job.limits.memory_bytes.div_ceil(MIB)
}

/// Most attempts whose outcomes wait for their commit. While the store is slow or unavailable, more would only
/// take memory.
const ENDING_MAX: usize = 4 * COMMIT_BATCH_MAX;

pub struct HostCapacity {
    items: Pool,
    discoveries: Pool,
    /// Attempts that returned their slot and are not committed.
    ending: Arc<AtomicUsize>,
}

struct Pool {
    all: Capacity,
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Pool {
    fn new(slots: u32, memory_bytes: usize) -> Pool {
        let most = |permits: usize| permits.min(Semaphore::MAX_PERMITS);
        let slots = most(usize::try_from(slots).unwrap_or(usize::MAX));
        let memory = most(memory_bytes / MIB);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Pool { all: Capacity { slots, memory }, slots: semaphore(slots), memory: semaphore(memory) }
    }

    fn free(&self) -> Capacity {
        Capacity { slots: self.slots.available_permits(), memory: self.memory.available_permits() }
    }

    /// Permits for one attempt, at most as many as the pool has.
    fn permits(&self, memory: usize) -> u32 {
        u32::try_from(memory.min(self.all.memory)).unwrap_or(u32::MAX)
    }
}

/// The slot and memory of one attempt or discovery, returned when dropped. The slots of items that have not
/// started also cover the instances that their claim keeps (`domain::reuse`).
pub struct Slot {
    /// Counts for the job; `None` for a discovery.
    _busy: Option<Counted>,
    _slot: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

/// The right to one attempt of a job.
pub struct Permit {
    /// Until the guest's part is over.
    pub slot: Slot,
    /// Until the outcome is committed.
    pub uncommitted: Counted,
}

/// An attempt in a counter, until dropped.
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Counted {
        counter.fetch_add(1, Ordering::AcqRel);
        Counted(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl HostCapacity {
    pub fn new(config: &EngineConfig) -> HostCapacity {
        HostCapacity {
            items: Pool::new(config.attempts_max, config.memory_bytes),
            discoveries: Pool::new(config.discoveries_max, config.discovery_memory_bytes()),
            ending: Arc::default(),
        }
    }

    /// Capacity of this host for attempts of items.
    pub fn all(&self) -> Capacity {
        self.items.all
    }

    /// Capacity for more attempts of items.
    pub fn free(&self) -> Capacity {
        let free = self.items.free();
        let unended = ENDING_MAX.saturating_sub(self.ending.load(Ordering::Acquire));
        Capacity { slots: free.slots.min(unended), ..free }
    }

    /// Whether half of the capacity for attempts of items is free.
    pub fn is_half_free(&self) -> bool {
        let half = self.all().half();
        self.free().holds(Capacity { slots: half.slots.min(ENDING_MAX / 2), ..half })
    }

    /// Attempts of items whose guests run.
    pub fn used(&self) -> usize {
        self.all().slots.saturating_sub(self.items.free().slots)
    }

    /// Returns the slot of an attempt whose outcome is known. The outcome counts until it is committed.
    pub fn ending(&self, slot: Slot) -> Counted {
        let ending = Counted::new(&self.ending);
        drop(slot);
        ending
    }

    /// Waits for a free slot and memory, in the order of the calls.
    pub async fn for_discovery(&self, job: &JobSpec) -> Option<Slot> {
        let Pool { slots, memory, .. } = &self.discoveries;
        let need = self.discoveries.permits(memory_of(job));
        let slot = slots.clone().acquire_owned().await.ok()?;
        let memory = memory.clone().acquire_many_owned(need).await.ok()?;
        Some(Slot { _busy: None, _slot: slot, _memory: memory })
    }
}

/// State of each job on this host, as the queue sees it.
#[derive(Default)]
pub struct Tenants(HashMap<JobName, Tenant>);

#[derive(Default)]
pub struct Tenant {
    /// Slots that its attempts hold.
    slots: Arc<AtomicUsize>,
    /// Attempts whose outcome is not committed.
    uncommitted: Arc<AtomicUsize>,
    /// When items of the job were claimed last.
    served_at: Option<Timestamp>,
    /// The last claim returned no items, although some were due.
    barren: bool,
}

impl Tenants {
    pub fn of(&mut self, job: &JobName) -> &mut Tenant {
        if !self.0.contains_key(job) {
            self.0.insert(job.clone(), Tenant::default());
        }
        self.0.entry(job.clone()).or_default()
    }
}

impl Tenant {
    pub fn slots(&self) -> usize {
        self.slots.load(Ordering::Acquire)
    }

    pub fn waits(&self) -> bool {
        !self.barren
    }

    /// Since when the job waits to be served. Work that was due before the job was served last counts from
    /// that time, so that a backlog does not take precedence over the work of other jobs.
    pub fn since(&self, due: Timestamp, now: Timestamp) -> Timestamp {
        self.served_at.map_or(due, |served| due.max(served.min(now)))
    }

    /// Records the result of a claim.
    pub fn served(&mut self, claimed: usize, now: Timestamp) {
        self.barren = claimed == 0;
        if claimed > 0 {
            self.served_at = Some(now);
        }
    }

    /// Attempts that the job's own limit still allows; 0 if they are too few for a claim.
    pub fn wants(&self, job: &JobSpec) -> usize {
        let most = usize::try_from(job.flow.concurrency).unwrap_or(usize::MAX);
        let free = most.saturating_sub(self.uncommitted.load(Ordering::Acquire));
        if free < most / REFILL_SHARE { 0 } else { free }
    }

    /// Takes up to `attempts` permits. Only the queue takes permits of this pool, so those that
    /// were free still are.
    pub fn take(&self, capacity: &HostCapacity, job: &JobSpec, attempts: usize) -> Vec<Permit> {
        let need = capacity.items.permits(memory_of(job));
        let permit = || {
            let slot = capacity.items.slots.clone().try_acquire_owned().ok()?;
            let memory = capacity.items.memory.clone().try_acquire_many_owned(need).ok()?;
            let slot = Slot { _busy: Some(Counted::new(&self.slots)), _slot: slot, _memory: memory };
            Some(Permit { slot, uncommitted: Counted::new(&self.uncommitted) })
        };
        std::iter::from_fn(permit).take(attempts).collect()
    }
}
