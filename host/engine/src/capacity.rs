//! Slots and guest memory of this host. Attempts of items and discoveries have separate pools, so
//! neither delays the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::fair::Capacity;
use domain::id::JobName;
use domain::job::JobSpec;
use jiff::Timestamp;
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

pub struct HostCapacity {
    items: Pool,
    discoveries: Pool,
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

/// The slot and memory of one attempt or discovery, returned when dropped. The permits of items that have not
/// started also cover the instances that their claim keeps (`domain::reuse`).
pub struct Permit {
    running: Option<Arc<AtomicUsize>>,
    _slot: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl HostCapacity {
    pub fn new(config: &EngineConfig) -> HostCapacity {
        HostCapacity {
            items: Pool::new(config.attempts_max, config.memory_bytes),
            discoveries: Pool::new(config.discoveries_max, config.discovery_memory_bytes()),
        }
    }

    /// Capacity of this host for attempts of items.
    pub fn all(&self) -> Capacity {
        self.items.all
    }

    /// Free capacity for attempts of items.
    pub fn free(&self) -> Capacity {
        self.items.free()
    }

    /// Running attempts of items.
    pub fn used(&self) -> usize {
        self.all().slots.saturating_sub(self.free().slots)
    }

    /// Waits for a free slot and memory, in the order of the calls.
    pub async fn for_discovery(&self, job: &JobSpec) -> Option<Permit> {
        let Pool { slots, memory, .. } = &self.discoveries;
        let need = self.discoveries.permits(memory_of(job));
        let slot = slots.clone().acquire_owned().await.ok()?;
        let memory = memory.clone().acquire_many_owned(need).await.ok()?;
        Some(Permit { running: None, _slot: slot, _memory: memory })
    }
}

/// State of each job on this host, as the queue sees it.
#[derive(Default)]
pub struct Tenants(HashMap<JobName, Tenant>);

#[derive(Default)]
pub struct Tenant {
    running: Arc<AtomicUsize>,
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
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
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
        let free = most.saturating_sub(self.running());
        if free < most / REFILL_SHARE { 0 } else { free }
    }

    /// Takes up to `attempts` permits. Only the queue takes permits of this pool, so those that
    /// were free still are.
    pub fn take(&self, capacity: &HostCapacity, job: &JobSpec, attempts: usize) -> Vec<Permit> {
        let need = capacity.items.permits(memory_of(job));
        let permit = || {
            let slot = capacity.items.slots.clone().try_acquire_owned().ok()?;
            let memory = capacity.items.memory.clone().try_acquire_many_owned(need).ok()?;
            self.running.fetch_add(1, Ordering::AcqRel);
            Some(Permit { running: Some(self.running.clone()), _slot: slot, _memory: memory })
        };
        std::iter::from_fn(permit).take(attempts).collect()
    }
}
