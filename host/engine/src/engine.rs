//! The engine: the state that its loops share, their start and their stop.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use domain::clock::Clock;
use domain::engine_event::EngineEvent;
use domain::id::{HostId, JobName, RunId};
use domain::job::JobSpec;
use domain::lease::Trust;
use domain::runner::{Readiness, Runner};
use store::audit::Entry;
use store::feed::Published;
use store::items::recovery::Recovered;
use store::{Store, StoreError};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backpressure::Backpressure;
use crate::capacity::{HostCapacity, Tenants};
use crate::config::EngineConfig;
use crate::ctx::{Ctx, HEARTBEAT, Jobs};
use crate::identity::{Identity, Started};
use crate::metrics::Metrics;
use crate::steadiness::Steadiness;
use crate::{discovery, heartbeat, identity, presence, queue, recovery, scheduler, upkeep};

pub struct Engine {
    ctx: Arc<Ctx>,
    /// Loops that take new work.
    takers: TaskTracker,
    /// Runs the heartbeat, which renews the leases of running attempts, and holds the presence lock, until the last
    /// attempt has ended.
    keeper: TaskTracker,
}

/// A loop that is restarted when it fails, until `stop`.
fn supervised<F: Future<Output = ()>, R: Fn(Arc<Ctx>) -> F>(
    ctx: &Arc<Ctx>,
    name: &'static str,
    stop: &CancellationToken,
    run: R,
) -> impl Future<Output = ()> + use<F, R> {
    let (tasks, ctx) = (ctx.store.tasks().clone(), ctx.clone());
    tasks.supervise(name, stop.clone(), move || run(ctx.clone()))
}

impl Engine {
    /// Registers this start, puts back the work that this host held before, then starts the loops. Fails if
    /// another process runs under the same id.
    pub async fn start(
        config: EngineConfig,
        identity: Identity,
        store: Arc<Store>,
        runner: Arc<dyn Runner>,
        clock: Clock,
        jobs: Vec<Arc<JobSpec>>,
    ) -> Result<Engine, StoreError> {
        store.acts_as(identity.id);
        heartbeat::set_clock(&clock, &store).await?;
        let steadiness = Steadiness::at_start(&clock, &store).await?;
        let Started { start, has_waited } = identity::take(identity, &config, &store, &clock).await?;
        let now = clock.now();
        for job in &jobs {
            store.jobs().put(job, now).await?;
        }
        let trust = Arc::new(Trust::new(clock.clone(), config.lease_ttl - config.lease_margin));
        let capacity = HostCapacity::new(&config);
        let ctx = Arc::new(Ctx {
            config,
            start,
            store,
            runner,
            clock,
            trust,
            jobs: RwLock::new(jobs.into()),
            jobs_changed: Notify::new(),
            steadiness,
            clock_set: Notify::new(),
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            displaced: CancellationToken::new(),
            ended: CancellationToken::new(),
            leases: Mutex::new(CancellationToken::new()),
            trouble: Mutex::default(),
            attempts: TaskTracker::new(),
            capacity,
            backpressure: Backpressure::default(),
            room: Notify::new(),
        });
        match has_waited {
            false => recovery::at_start(&ctx).await,
            // The former process may still run, and may have claimed something since.
            true => recovery::lapsed_now(&ctx).await,
        }
        let (takers, keeper) = (TaskTracker::new(), TaskTracker::new());
        keeper.spawn(supervised(&ctx, HEARTBEAT, &ctx.ended, heartbeat::run));
        keeper.spawn(supervised(&ctx, "presence", &ctx.ended, presence::run));
        let stop = &ctx.stop;
        takers.spawn(supervised(&ctx, "recovery", stop, recovery::run));
        takers.spawn(supervised(&ctx, "scheduler", stop, scheduler::run));
        takers.spawn(supervised(&ctx, "upkeep", stop, upkeep::run));
        let busy = discovery::Busy::default();
        takers.spawn(supervised(&ctx, "discovery", stop, move |ctx| discovery::run(ctx, busy.clone())));
        let tenants = Arc::new(tokio::sync::Mutex::new(Tenants::default()));
        takers.spawn(supervised(&ctx, "queue", stop, move |ctx| queue::run(ctx, tenants.clone())));
        takers.close();
        keeper.close();
        Ok(Engine { ctx, takers, keeper })
    }

    /// Takes no new work, waits for attempts to end, cuts off those that do not, and puts their items back.
    pub async fn stop(&self) {
        let ctx = &self.ctx;
        tracing::info!(running = ctx.attempts.len(), "stopping: no new work, waiting for attempts");
        ctx.stop.cancel();
        // A claim may be in progress: the attempts that it starts have to be waited for, too.
        self.takers.wait().await;
        ctx.attempts.close();
        if tokio::time::timeout(ctx.config.stop_grace, ctx.attempts.wait()).await.is_err() {
            tracing::warn!(running = ctx.attempts.len(), "cutting off attempts; their items are put back");
            ctx.cut.cancel();
            ctx.attempts.wait().await;
        }
        ctx.ended.cancel();
        self.keeper.wait().await;
        if let Err(error) =
            ctx.store.hosts().stopped(ctx.host(), ctx.start.incarnation, ctx.clock.now()).await
        {
            tracing::warn!(%error, "the stop of this host could not be recorded in the store");
        }
    }

    pub fn jobs(&self) -> Jobs {
        self.ctx.jobs()
    }

    /// Replaces the jobs. Running attempts keep the old definition; the next due instants follow the new one.
    pub async fn set_jobs(&self, jobs: Vec<Arc<JobSpec>>) -> Result<(), StoreError> {
        let ctx = &self.ctx;
        let now = ctx.clock.now();
        for job in &jobs {
            ctx.store.jobs().put(job, now).await?;
        }
        *ctx.jobs.write().unwrap_or_else(PoisonError::into_inner) = jobs.into();
        ctx.jobs_changed.notify_one();
        ctx.store.feed().wake_here();
        Ok(())
    }

    /// Why this host cannot renew its leases, if it cannot. A database may answer reads and refuse writes.
    pub fn trouble(&self) -> Option<String> {
        self.ctx.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The resource that this machine lacks, if attempts failed for that reason within the last minute.
    pub fn resource_trouble(&self) -> Option<String> {
        self.ctx.backpressure.trouble()
    }

    /// Attempts of items that this host runs at the same time.
    pub fn attempts_max(&self) -> usize {
        self.ctx.capacity.all().slots
    }

    /// Memory that attempts may use together, in bytes, and the source of that value
    /// unless it was configured.
    pub fn memory(&self) -> (usize, Option<&str>) {
        (self.ctx.config.memory_bytes, self.ctx.config.memory_from.as_deref())
    }

    /// Whether rows that are old by this host's clock may be removed. False for a day after
    /// the clock was set.
    pub fn clock_is_steady(&self) -> bool {
        self.ctx.steadiness.is_steady()
    }

    /// Whether another process has taken over this host's id: this engine ends its work, and the
    /// process has to exit.
    pub fn is_displaced(&self) -> bool {
        self.ctx.displaced.is_cancelled()
    }

    /// Resolves when [`Engine::is_displaced`] becomes true.
    pub async fn displaced(&self) {
        self.ctx.displaced.cancelled().await;
    }

    pub fn host_id(&self) -> HostId {
        self.ctx.host()
    }

    pub fn readiness(&self, job: &JobSpec) -> Readiness {
        self.ctx.runner.readiness(job)
    }

    pub fn feed(&self) -> broadcast::Receiver<Published> {
        self.ctx.store.feed().listen()
    }

    /// Starts a run manually; `params` is a JSON document for the plugin.
    pub async fn trigger(
        &self,
        job: &JobName,
        params: Option<&str>,
        actor: &str,
    ) -> Result<RunId, StoreError> {
        let ctx = &self.ctx;
        if ctx.job(job).is_none() {
            return Err(StoreError::NotFound(format!("job {:?}", job.as_str())));
        }
        ctx.store.jobs().trigger(job, params, actor, ctx.clock.now()).await
    }

    /// Scans for lost work now, and returns the items that were put back.
    pub async fn recover(&self, actor: &str) -> Result<Vec<Recovered>, StoreError> {
        let now = self.ctx.clock.now();
        let recovered = recovery::lapsed(&self.ctx, now).await?;
        let detail = format!("{} items put back", recovered.len());
        let entry =
            Entry { actor, action: "recovered_manually", job: None, subject: "all jobs", detail: &detail };
        self.ctx.store.audit().add(&entry, now).await?;
        Ok(recovered)
    }

    /// Notifies the loops that a plugin's versions changed.
    pub fn plugins_changed(&self) {
        self.ctx.store.feed().publish_here(EngineEvent::Plugins);
    }
}
