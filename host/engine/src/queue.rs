//! Due items become attempts: room first, then a batch of claims, one task each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::Timestamp;
use store::StoreError;
use store::pauses::Pauses;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::config::STORE_REST;
use crate::engine::Ctx;
use crate::executor::execute;
use crate::heartbeat::Held;
use crate::seldom::Seldom;
use crate::timer::until;

static WAITS: Seldom = Seldom::new();

/// The share of a job's room that has to be free before more is claimed, while others run:
/// claims cost a transaction each, whatever their size.
const REFILL_SHARE: usize = 4;

/// How long to let more attempts end, in real time, once the whole host was full: claims cost a transaction each.
const FULL_REST: Duration = Duration::from_millis(2);

/// How long to leave alone, in real time, what is due and cannot be claimed just now: on Postgres
/// another transaction may hold its row for a moment (a renewal, another host's claim).
const HELD_REST: Duration = Duration::from_millis(20);

const MIB: usize = 1 << 20;

/// `rooms` outlives a failure of the loop: attempts that run keep their permits.
pub async fn run(ctx: Arc<Ctx>, rooms: Arc<Mutex<Rooms>>) {
    let mut rooms = rooms.lock().await;
    let (mut pauses, mut looked_at) = (ctx.pauses().await, Instant::now());
    loop {
        let woken = ctx.store.woken();
        let room = ctx.room.notified();
        let round = match ctx.may_claim() {
            true => round(&ctx, &pauses, &mut rooms).await,
            false => Round::default(),
        };
        if round.failed {
            tokio::time::sleep(STORE_REST).await;
        }
        let rest = if round.held { HELD_REST } else { ctx.config.poll_period };
        // In this order: under load there is room all the time, and a wake-up must not be passed over.
        let woken = tokio::select! {
            biased;
            _ = ctx.stop.cancelled() => return,
            _ = woken => true,
            _ = room => {
                if round.full {
                    tokio::time::sleep(FULL_REST).await;
                }
                false
            }
            _ = until(&ctx.clock, round.next) => false,
            _ = tokio::time::sleep(rest) => false,
        };
        // Who pauses a job wakes this loop; another host may not have been heard.
        if woken || looked_at.elapsed() >= ctx.config.poll_period {
            (pauses, looked_at) = (ctx.pauses().await, Instant::now());
        }
    }
}

/// What one look at all jobs came to.
#[derive(Default)]
struct Round {
    /// When something is due next.
    next: Option<Timestamp>,
    failed: bool,
    held: bool,
    /// The host has no room.
    full: bool,
}

/// Claims for each job what there is room for, in the order of their turns. Where the host itself has no room for the
/// one whose turn it is, nobody behind it gets any: else what needs much would never find it.
async fn round(ctx: &Arc<Ctx>, pauses: &Pauses, rooms: &mut Rooms) -> Round {
    let mut round = Round::default();
    let mut turns = Vec::new();
    for job in ctx.jobs().iter().filter(|job| ctx.ready(job) && !pauses.covers(job.name.as_str())) {
        match ctx.store.next_due(&job.name).await {
            Ok(due) => turns.extend(due.map(|due| (due, job.clone()))),
            Err(error) => round.fail(job, &error),
        }
    }
    turns.sort_by_key(|(due, job)| job.flow.turn(*due));
    for (due, job) in turns {
        match fill(ctx, &job, due, rooms).await {
            Ok(Filled::Until(due)) => round.next = [round.next, due].into_iter().flatten().min(),
            Ok(Filled::Held) => round.held = true,
            Ok(Filled::NoRoom) => {
                round.full = true;
                break;
            }
            Err(error) => round.fail(&job, &error),
        }
    }
    round
}

impl Round {
    fn fail(&mut self, job: &JobSpec, error: &StoreError) {
        if let Some(unsaid) = WAITS.may() {
            tracing::warn!(job = %job.name, %error, unsaid, "items wait for the store");
        }
        self.failed = true;
    }
}

/// Room for attempts: on this host, and of each job.
pub struct Rooms {
    host: Arc<Semaphore>,
    /// In MiB.
    memory: Arc<Semaphore>,
    /// Attempts of each job that run.
    running: HashMap<JobName, Arc<AtomicUsize>>,
}

/// What a job is given of it.
enum Room {
    /// All that the job may have, or what the host has left of it.
    Permits { permits: Vec<Permit>, all: bool },
    /// The job itself has enough for now.
    Job,
    /// The host has none, or not as much memory as an attempt may need.
    Host,
}

impl Rooms {
    pub fn new(ctx: &Ctx) -> Rooms {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let all = usize::try_from(ctx.config.attempts_max).unwrap_or(usize::MAX);
        let memory = ctx.config.memory_bytes / MIB;
        Rooms { host: semaphore(all), memory: semaphore(memory), running: HashMap::new() }
    }

    /// Up to as many permits as are free, if it is worth a claim. Only the loop takes any, so none is taken twice.
    fn take(&mut self, job: &JobSpec) -> Room {
        let running = self.running.entry(job.name.clone()).or_default();
        let most = usize::try_from(job.flow.concurrency).unwrap_or(usize::MAX);
        let free = most.saturating_sub(running.load(Ordering::Acquire));
        if free == 0 || free < most / REFILL_SHARE {
            return Room::Job;
        }
        let memory = u32::try_from(job.limits.memory_bytes.div_ceil(MIB)).unwrap_or(u32::MAX);
        let permit = || {
            let host = self.host.clone().try_acquire_owned().ok()?;
            let memory = self.memory.clone().try_acquire_many_owned(memory).ok()?;
            running.fetch_add(1, Ordering::AcqRel);
            Some(Permit { running: running.clone(), _host: host, _memory: memory })
        };
        let permits: Vec<Permit> = std::iter::from_fn(permit).take(free).collect();
        let all = permits.len() == free;
        if permits.is_empty() { Room::Host } else { Room::Permits { permits, all } }
    }
}

struct Permit {
    running: Arc<AtomicUsize>,
    _host: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
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
    /// When an attempt of this host ends.
    NoRoom,
}

/// Claims once what there is room for; `due` is when the first of it is. What is left after that comes when all others
/// had their turn: where attempts end as fast as they are claimed there is always room, and no end.
async fn fill(
    ctx: &Arc<Ctx>,
    job: &Arc<JobSpec>,
    due: Timestamp,
    rooms: &mut Rooms,
) -> Result<Filled, StoreError> {
    let now = ctx.clock.now();
    if due > now || ctx.stop.is_cancelled() {
        return Ok(Filled::Until(Some(due)));
    }
    let (permits, all) = match rooms.take(job) {
        Room::Permits { permits, all } => (permits, all),
        Room::Job => return Ok(Filled::Until(None)),
        Room::Host => return Ok(Filled::NoRoom),
    };
    let wanted = u32::try_from(permits.len()).unwrap_or(u32::MAX);
    // From before the claim: leases that are lost meanwhile are lost for it too.
    let leases = ctx.leases();
    let claimed = ctx.store.claim(job, ctx.lease(), wanted).await?;
    let Some(attempt) = claimed.first().map(|item| item.attempt_id) else {
        // What keeps a shared limit full ends with a wake-up, or the rate's window does.
        let window = job.flow.rate.and_then(|rate| rate.next_window(now));
        return Ok(if job.flow.is_shared() { Filled::Until(window) } else { Filled::Held });
    };
    let held = Arc::new(Held::new(ctx, attempt));
    let used_up = claimed.len() >= permits.len();
    for (item, permit) in claimed.into_iter().zip(permits) {
        let (ctx, job, leases, held) = (ctx.clone(), job.clone(), leases.clone(), held.clone());
        let tracker = ctx.attempts.clone();
        tracker.spawn(async move {
            execute(&ctx, job.clone(), item, &leases).await;
            drop((permit, held));
            ctx.room.notify_one();
            if job.flow.has_places() {
                ctx.store.wake();
            }
        });
    }
    Ok(match used_up {
        // The end of an attempt tells of room.
        true if all => Filled::Until(None),
        true => Filled::NoRoom,
        false => Filled::Until(ctx.store.next_due(&job.name).await?),
    })
}
