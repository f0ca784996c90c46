//! The state that all loops and attempts of the engine share.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use domain::clock::Clock;
use domain::id::{HostId, JobName};
use domain::job::JobSpec;
use domain::lease::{Hold, Trust};
use domain::runner::{Readiness, Runner};
use jiff::Timestamp;
use store::Store;
use store::attempts::commit::COMMITTER;
use store::hosts::HostStart;
use store::items::Lease;
use store::jobs::pauses::Pauses;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backpressure::Backpressure;
use crate::capacity::HostCapacity;
use crate::config::EngineConfig;
use crate::metrics::Metrics;
use crate::steadiness::Steadiness;

/// The name of the loop that renews leases.
pub(crate) const HEARTBEAT: &str = "heartbeat";

pub type Jobs = Arc<[Arc<JobSpec>]>;

/// State shared by every loop and attempt.
pub(crate) struct Ctx {
    pub config: EngineConfig,
    /// This start of the host.
    pub start: HostStart,
    pub store: Arc<Store>,
    pub runner: Arc<dyn Runner>,
    pub clock: Clock,
    /// Until when this host may use the leases that it holds.
    pub trust: Arc<Trust>,
    pub jobs: RwLock<Jobs>,
    /// Notified when the job list is replaced.
    pub jobs_changed: Notify,
    pub steadiness: Steadiness,
    /// Notified when the clock was set: the scheduler recomputes its next instant.
    pub clock_set: Notify,
    pub metrics: Metrics,
    /// Cancelled at the stop: no new work is taken.
    pub stop: CancellationToken,
    /// Cancelled when the grace period ends: running attempts are cut off.
    pub cut: CancellationToken,
    /// Another process took over this host's id.
    pub displaced: CancellationToken,
    /// The last attempt of a stopping host has ended: no lease needs renewal.
    pub ended: CancellationToken,
    /// Cancelled, and replaced, when leases could not be renewed: ends the attempts that run under them.
    pub leases: Mutex<CancellationToken>,
    /// Why the last renewal failed, if it failed.
    pub trouble: Mutex<Option<String>>,
    pub attempts: TaskTracker,
    pub capacity: HostCapacity,
    pub backpressure: Backpressure,
    /// Notified when an attempt ended and its slot is free.
    pub room: Notify,
}

impl Ctx {
    pub fn host(&self) -> HostId {
        self.start.id
    }

    pub fn lease(&self) -> Lease {
        store::items::lease(self.host(), self.start.incarnation, self.clock.now(), self.config.lease_ttl)
    }

    /// The lease of an attempt claimed at `claimed_at`; it has no end for jobs that continue without a lease.
    pub fn hold(&self, job: &JobSpec, claimed_at: Timestamp) -> Hold {
        if job.survives_store_loss() {
            return Hold::without_end();
        }
        Hold::new(self.trust.clone(), claimed_at)
    }

    pub fn leases(&self) -> CancellationToken {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The paused jobs; all jobs, if the store cannot be read.
    pub async fn pauses(&self) -> Pauses {
        self.store.jobs().pauses().await.unwrap_or_else(|_| Pauses::everything(self.clock.now()))
    }

    pub fn ready(&self, job: &JobSpec) -> bool {
        matches!(self.runner.readiness(job), Readiness::Ready(_))
    }

    /// Whether new work may be claimed. Without the heartbeat no task renews a new lease; without the
    /// committer no outcome is written.
    pub fn may_claim(&self) -> bool {
        let tasks = self.store.tasks();
        // A process that was stopped for long renews first: another one may have taken over its id.
        !self.trust.has_ended() && !tasks.is_down(HEARTBEAT) && !tasks.is_down(COMMITTER)
    }

    /// The current jobs. A task that works on one keeps the version that it started with.
    pub fn jobs(&self) -> Jobs {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn job(&self, name: &JobName) -> Option<Arc<JobSpec>> {
        self.jobs().iter().find(|job| job.name == *name).cloned()
    }
}
