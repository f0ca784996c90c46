//! Due items become attempts: room first, then a batch of claims, one task each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::Timestamp;
use store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::STORE_REST;
use crate::engine::Ctx;
use crate::executor::execute;
use crate::timer::until;

/// The share of a job's room that has to be free before more is claimed, while others run:
/// claims cost a transaction each, whatever their size.
const REFILL_SHARE: usize = 4;

/// How long to leave alone, in real time, what is due and cannot be claimed just now: on Postgres
/// another transaction may hold its row for a moment (a renewal, another host's claim).
const HELD_REST: Duration = Duration::from_millis(20);

pub async fn run(ctx: Arc<Ctx>) {
    let mut rooms = Rooms::new(&ctx);
    let (mut pauses, mut looked_at) = (ctx.pauses().await, Instant::now());
    loop {
        let woken = ctx.store.woken();
        let room = ctx.room.notified();
        let mut next: Option<Timestamp> = None;
        let (mut failed, mut held) = (false, false);
        let may_begin = |job: &&Arc<JobSpec>| ctx.ready(job) && !pauses.covers(job.name.as_str());
        for job in ctx.jobs().iter().filter(may_begin) {
            match fill(&ctx, job, &mut rooms).await {
                Ok(Filled::Until(due)) => next = [next, due].into_iter().flatten().min(),
                Ok(Filled::Held) => held = true,
                Err(error) => {
                    tracing::warn!(job = %job.name, %error, "items wait for the store");
                    failed = true;
                }
            }
        }
        if failed {
            tokio::time::sleep(STORE_REST).await;
        }
        let rest = if held { HELD_REST } else { ctx.config.poll_period };
        // In this order: under load there is room all the time, and a wake-up must not be passed over.
        let woken = tokio::select! {
            biased;
            _ = ctx.stop.cancelled() => return,
            _ = woken => true,
            _ = room => false,
            _ = until(&ctx.clock, next) => false,
            _ = tokio::time::sleep(rest) => false,
        };
        // Who pauses a job wakes this loop; another host may not have been heard.
        if woken || looked_at.elapsed() >= ctx.config.poll_period {
            (pauses, looked_at) = (ctx.pauses().await, Instant::now());
        }
    }
}

/// Room for attempts: on this host, and of each job.
struct Rooms {
    host: Arc<Semaphore>,
    /// Attempts of each job that run.
    running: HashMap<JobName, Arc<AtomicUsize>>,
}

impl Rooms {
    fn new(ctx: &Ctx) -> Rooms {
        let all = usize::try_from(ctx.config.attempts_max).unwrap_or(usize::MAX >> 4);
        Rooms { host: Arc::new(Semaphore::new(all)), running: HashMap::new() }
    }

    /// Up to as many permits as are free, if it is worth a claim. Only the loop takes any, so none is taken twice.
    fn take(&mut self, job: &JobSpec) -> Vec<Permit> {
        let running = self.running.entry(job.name.clone()).or_default();
        let all = usize::try_from(job.concurrency).unwrap_or(usize::MAX);
        let free = all.saturating_sub(running.load(Ordering::Acquire));
        if free == 0 || free < all / REFILL_SHARE {
            return Vec::new();
        }
        let permit = || {
            let host = self.host.clone().try_acquire_owned().ok()?;
            running.fetch_add(1, Ordering::AcqRel);
            Some(Permit { running: running.clone(), _host: host })
        };
        std::iter::from_fn(permit).take(free).collect()
    }
}

struct Permit {
    running: Arc<AtomicUsize>,
    _host: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// When to look again.
enum Filled {
    /// At this instant, or when something tells of work.
    Until(Option<Timestamp>),
    /// Soon: something is due, and nothing could be claimed.
    Held,
}

/// Claims what there is room for.
async fn fill(ctx: &Arc<Ctx>, job: &Arc<JobSpec>, rooms: &mut Rooms) -> Result<Filled, StoreError> {
    loop {
        let now = ctx.clock.now();
        let next = ctx.store.next_due(&job.name).await?;
        if next.is_none_or(|next| next > now) || ctx.stop.is_cancelled() {
            return Ok(Filled::Until(next));
        }
        let permits = rooms.take(job);
        if permits.is_empty() {
            return Ok(Filled::Until(None));
        }
        let wanted = u32::try_from(permits.len()).unwrap_or(u32::MAX);
        let leases = ctx.leases();
        let claimed = ctx.store.claim(job, ctx.lease(), wanted).await?;
        if claimed.is_empty() {
            return Ok(job.rate.map_or(Filled::Held, |rate| Filled::Until(rate.next_window(now))));
        }
        for (item, permit) in claimed.into_iter().zip(permits) {
            let (ctx, job, leases) = (ctx.clone(), job.clone(), leases.clone());
            let tracker = ctx.attempts.clone();
            tracker.spawn(async move {
                execute(&ctx, job, item, &leases).await;
                drop(permit);
                ctx.room.notify_one();
            });
        }
    }
}
