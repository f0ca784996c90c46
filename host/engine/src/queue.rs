//! Claims due items and starts their attempts: shares the free slots among the jobs, claims in batches, and
//! starts one task per item.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::fair::{Capacity, Wish, share};
use domain::id::JobName;
use domain::job::{Isolation, JobSpec};
use domain::reuse::ClaimShare;
use jiff::Timestamp;
use store::jobs::pauses::Pauses;
use store::{Decoded, StoreError};
use tokio::sync::Mutex;

use crate::capacity::{Permit, Tenants, memory_of};
use crate::config::STORE_REST;
use crate::ctx::Ctx;
use crate::executor::execute;
use crate::heartbeat::HeldClaim;
use crate::log_throttle::LogThrottle;
use crate::timer::until;

static WAITS: LogThrottle = LogThrottle::new();

/// Longest delay, in real time, to let more attempts end after the whole host was full: each claim costs a
/// transaction.
const FULL_REST: Duration = Duration::from_millis(2);

/// How long the times at which items are due are not read again, in real time.
const AGENDA_KEPT: Duration = Duration::from_millis(50);

/// Delay, in real time, before due items that could not be claimed are tried again. On Postgres another
/// transaction may lock a row briefly (a renewal, another host's claim).
const HELD_REST: Duration = Duration::from_millis(20);

/// `tenants` outlives a failure of this loop because it counts running attempts.
pub async fn run(ctx: Arc<Ctx>, tenants: Arc<Mutex<Tenants>>) {
    let mut tenants = tenants.lock().await;
    let (mut pauses, mut looked_at) = (ctx.pauses().await, Instant::now());
    let mut agenda = Agenda::default();
    loop {
        let woken = ctx.store.feed().woken();
        let room = ctx.room.notified();
        let round = match ctx.may_claim() {
            true => round(&ctx, &pauses, &mut agenda, &mut tenants).await,
            false => Round::default(),
        };
        // Otherwise more items of one job are due than could be claimed. Of several jobs, it would not be known which
        // one has items left.
        if round.short || !round.more || round.jobs_due != 1 {
            agenda.forget();
        }
        if round.failed {
            tokio::time::sleep(STORE_REST).await;
        }
        let is_used = !ctx.capacity.is_half_free();
        let strained = ctx.backpressure.rest().filter(|_| round.full);
        let rest = if round.held { HELD_REST } else { strained.unwrap_or(ctx.config.poll_period) };
        // What became due meanwhile is not in the agenda.
        let rest = if agenda.is_fresh { rest } else { rest.min(AGENDA_KEPT) };
        // The order matters: under load slots are freed all the time, and a wake-up must not be missed.
        let woken = tokio::select! {
            biased;
            _ = ctx.stop.cancelled() => return,
            _ = woken => true,
            _ = room => {
                if round.full {
                    let _ = tokio::time::timeout(FULL_REST, freed(&ctx, is_used)).await;
                }
                false
            }
            _ = until(&ctx.clock, round.next) => false,
            _ = tokio::time::sleep(rest) => false,
        };
        if woken {
            agenda.forget();
        }
        // Pausing a job wakes this loop, but a wake-up from another host may be lost.
        if woken || looked_at.elapsed() >= ctx.config.poll_period {
            (pauses, looked_at) = (ctx.pauses().await, Instant::now());
        }
    }
}

/// Waits until half of the host's slots and memory are free; for ever if they were not what the host lacked.
async fn freed(ctx: &Ctx, is_used: bool) {
    while !is_used || !ctx.capacity.is_half_free() {
        ctx.room.notified().await;
    }
}

/// When the next item of each job is due. Reading it costs a statement, so it is kept for a moment while all claims
/// return as many items as they wanted: then more items are due.
#[derive(Default)]
struct Agenda {
    next_due: BTreeMap<JobName, Timestamp>,
    read_at: Option<Instant>,
    /// Whether the last pass read it.
    is_fresh: bool,
}

impl Agenda {
    fn forget(&mut self) {
        self.read_at = None;
    }

    async fn read(&mut self, ctx: &Ctx) -> Result<&BTreeMap<JobName, Timestamp>, StoreError> {
        self.is_fresh = self.read_at.is_none_or(|read_at| read_at.elapsed() >= AGENDA_KEPT);
        if self.is_fresh {
            let Decoded { rows, error } = ctx.store.items().next_due_by_job().await?;
            self.next_due = rows;
            error.inspect(waits);
            self.read_at = Some(Instant::now());
        }
        Ok(&self.next_due)
    }
}

/// The result of one pass over all jobs.
#[derive(Default)]
struct Round {
    /// The next due time.
    next: Option<Timestamp>,
    failed: bool,
    held: bool,
    /// The host has no free slots or memory.
    full: bool,
    /// The number of jobs with due items.
    jobs_due: usize,
    /// Items are due that could not be claimed now.
    more: bool,
    /// A claim returned fewer items than it wanted.
    short: bool,
}

/// A job with due items.
struct Due {
    job: Arc<JobSpec>,
    wish: Wish,
}

/// Shares the host's slots and memory among the jobs with due items and claims. Shares again what a
/// job could not use.
async fn round(ctx: &Arc<Ctx>, pauses: &Pauses, agenda: &mut Agenda, tenants: &mut Tenants) -> Round {
    let mut round = Round::default();
    // Read before the running attempts are counted: the slot of an attempt that ends meanwhile stays with its job, and is
    // shared in the next pass.
    let mut free = ctx.capacity.free();
    let (mut due, idle) = due_jobs(ctx, pauses, agenda, tenants, &mut round).await;
    due.sort_by_key(|due| due.wish.turn);
    loop {
        let wishes: Vec<Wish> = due.iter().map(|due| due.wish.clone()).collect();
        let slots = free.slots.min(ctx.backpressure.room(ctx.capacity.used()));
        let granted = share(ctx.capacity.all(), Capacity { slots, ..free }, idle, &wishes);
        let mut left = Vec::new();
        let mut is_over = true;
        for (mut due, granted) in due.into_iter().zip(granted) {
            if granted == 0 {
                left.push(due);
                continue;
            }
            let permits = tenants.of(&due.job.name).take(&ctx.capacity, &due.job, granted);
            let claimed = claim(ctx, &due.job, permits, tenants, &mut round).await;
            let used = *claimed.as_ref().unwrap_or(&0);
            free = free.minus(Capacity { slots: used, memory: used.saturating_mul(due.wish.memory) });
            match claimed {
                Ok(claimed) if claimed == granted => {
                    due.wish.wanted -= granted;
                    due.wish.running += granted;
                    left.extend((due.wish.wanted > 0).then_some(due));
                }
                Ok(_) => {
                    is_over = false;
                    round.short = true;
                }
                Err(error) => round.fail(&error),
            }
        }
        // Some jobs got less than they requested.
        round.full |= !left.is_empty();
        round.more |= !left.is_empty();
        if is_over || left.is_empty() || ctx.stop.is_cancelled() {
            return round;
        }
        due = left;
    }
}

/// Returns the jobs with due items, and the total of one attempt for each job that runs nothing
/// and has nothing due. While nothing is due, the number of jobs does not matter.
async fn due_jobs(
    ctx: &Arc<Ctx>,
    pauses: &Pauses,
    agenda: &mut Agenda,
    tenants: &mut Tenants,
    round: &mut Round,
) -> (Vec<Due>, Capacity) {
    let (mut all, mut idle) = (Vec::new(), Capacity::default());
    let next_due = match agenda.read(ctx).await {
        Ok(next_due) => next_due,
        Err(error) => {
            round.fail(&error);
            return (all, idle);
        }
    };
    let now = ctx.clock.now();
    round.look_at(next_due.values().copied().filter(|due| *due > now).min());
    if next_due.values().all(|due| *due > now) {
        return (all, idle);
    }
    for job in ctx.jobs().iter().filter(|job| ctx.ready(job) && !pauses.covers(job.name.as_str())) {
        let tenant = tenants.of(&job.name);
        let (running, memory) = (tenant.slots(), memory_of(job));
        if let Some(due) = next_due.get(&job.name).copied().filter(|due| *due <= now) {
            let turn = job.flow.turn(tenant.since(due, now));
            let (wanted, waits) = (tenant.wants(job), tenant.waits());
            round.jobs_due += 1;
            // At the job's own limit, the end of an attempt wakes this loop.
            round.more |= wanted == 0;
            if wanted > 0 {
                let wish = Wish { turn, running, memory, wanted, waits };
                all.push(Due { job: job.clone(), wish });
            }
        } else if running == 0 {
            idle = idle.plus(Capacity::attempt(memory));
        }
    }
    (all, idle)
}

impl Round {
    fn look_at(&mut self, due: Option<Timestamp>) {
        self.next = [self.next, due].into_iter().flatten().min();
    }

    fn fail(&mut self, error: &StoreError) {
        waits(error);
        self.failed = true;
    }
}

fn waits(error: &StoreError) {
    if let Some(unsaid) = WAITS.may() {
        tracing::warn!(%error, unsaid, "items wait for the store");
    }
}

/// Claims an item for each permit and starts the attempts. Returns the number of items.
async fn claim(
    ctx: &Arc<Ctx>,
    job: &Arc<JobSpec>,
    permits: Vec<Permit>,
    tenants: &mut Tenants,
    round: &mut Round,
) -> Result<usize, StoreError> {
    if permits.is_empty() || ctx.stop.is_cancelled() {
        return Ok(0);
    }
    let now = ctx.clock.now();
    let wanted = u32::try_from(permits.len()).unwrap_or(u32::MAX);
    // Taken before the claim: if the leases are lost meanwhile, this claim is lost, too.
    let leases = ctx.leases();
    let claimed = ctx.store.items().claim(job, ctx.lease(), wanted).await?;
    tenants.of(&job.name).served(claimed.len(), now);
    let count = claimed.len();
    let Some(attempt) = claimed.first().map(|item| item.attempt_id) else {
        // A full shared limit becomes free with a wake-up, or when the rate's next window begins.
        match job.flow.is_shared() {
            true => round.look_at(job.flow.rate.and_then(|rate| rate.next_window(now))),
            false => round.held = true,
        }
        return Ok(0);
    };
    let held = Arc::new(HeldClaim::new(ctx, attempt));
    let used_up = count >= permits.len();
    let mut shares = shares(job, count).into_iter();
    for (item, permit) in claimed.into_iter().zip(permits) {
        let share = shares.next();
        let (ctx, job, leases, held) = (ctx.clone(), job.clone(), leases.clone(), held.clone());
        let tracker = ctx.attempts.clone();
        tracker.spawn(async move {
            let Permit { slot, uncommitted } = permit;
            execute(&ctx, job.clone(), item, share, slot, &leases).await;
            drop((uncommitted, held));
            ctx.room.notify_one();
            if job.flow.has_places() {
                ctx.store.feed().wake();
            }
        });
    }
    if !used_up {
        round.look_at(ctx.store.items().next_due(&job.name).await?);
    }
    Ok(count)
}

/// The shares of the items of a claim in its instances; none if each item gets an instance of its own.
fn shares(job: &JobSpec, items: usize) -> Vec<ClaimShare> {
    match job.isolation {
        Isolation::Item => Vec::new(),
        Isolation::Batch => ClaimShare::of(items),
    }
}
