//! Creates runs for due instants, once over all hosts.

use std::sync::Arc;

use domain::clock::AHEAD_MIN;
use domain::job::JobSpec;
use domain::schedule::Schedule;
use domain::schedule::tick::Overlap;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::clock_watch;
use crate::config::STORE_REST;
use crate::ctx::Ctx;
use crate::log_throttle::LogThrottle;
use crate::metrics;
use crate::timer::{in_time, until};

static WAITS: LogThrottle = LogThrottle::new();

/// Maximum sleep, so that a change of the clock is noticed.
const SLEEP_MAX: SignedDuration = SignedDuration::from_mins(1);
/// Interval of the checks whether the run has ended that a buffered instant waits for.
const BUFFER_REST: SignedDuration = SignedDuration::from_secs(1);

pub async fn run(ctx: Arc<Ctx>) {
    warn_of_the_last(&ctx);
    loop {
        let now = ctx.clock.now();
        let mut failed = false;
        let mut next = now.checked_add(SLEEP_MAX).unwrap_or(Timestamp::MAX);
        for job in ctx.jobs().iter() {
            match in_time(tick(&ctx, job, now)).await {
                Ok(due) => next = next.min(due.unwrap_or(Timestamp::MAX)),
                Err(error) => {
                    if let Some(unsaid) = WAITS.may() {
                        tracing::warn!(job = %job.name, %error, unsaid, "the schedule waits for the store");
                    }
                    failed = true;
                }
            }
        }
        if !failed {
            metrics::round_done("scheduler", now);
        }
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = ctx.jobs_changed.notified() => warn_of_the_last(&ctx),
            _ = ctx.clock_set.notified() => {}
            _ = until(&ctx.clock, Some(next)), if !failed => {}
            _ = tokio::time::sleep(STORE_REST), if failed => {}
        }
    }
}

/// Warns of schedules that never fire again, which is most often a mistake.
fn warn_of_the_last(ctx: &Ctx) {
    let now = ctx.clock.now();
    let over =
        |job: &&Arc<JobSpec>| !matches!(job.schedule, Schedule::Manual) && job.next_after(now).is_none();
    for job in ctx.jobs().iter().filter(over) {
        tracing::warn!(job = %job.name, schedule = %job.schedule, "the schedule never fires again");
    }
}

/// Decides the due instants of one job. Returns when to check the job again.
async fn tick(ctx: &Ctx, job: &JobSpec, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let waits = buffered(ctx, job, now).await?;
    // A job with an offset sees a time that is earlier by the offset.
    let offset = job.ticks.offset(job.name.as_str());
    let seen = now.checked_sub(offset).unwrap_or(now);
    let after = place(ctx, job, seen, now).await?;
    if let Some(due) = job.schedule.due(after, seen)
        && let Some(ticked) = ctx.store.jobs().tick(job, &due, seen, now).await?
    {
        let name = job.name.clone();
        tracing::debug!(job = %name, at = %due.at, fate = ticked.fate.as_str(), missed = due.missed.len(), "tick");
    }
    let next = job.next_after(now);
    let soon = waits.then(|| now.checked_add(BUFFER_REST).unwrap_or(Timestamp::MAX));
    Ok([next, soon].into_iter().flatten().min())
}

/// The instant up to which a job's schedule is decided. An instant in the future was decided while a clock
/// was ahead: the schedule then continues from `seen`.
async fn place(ctx: &Ctx, job: &JobSpec, seen: Timestamp, now: Timestamp) -> Result<Timestamp, StoreError> {
    let place = ctx.store.jobs().ticked_at(&job.name).await?;
    let ahead = place.duration_since(seen);
    if ahead <= AHEAD_MIN || !ctx.store.hosts().rewind_schedule(&job.name, seen, now).await? {
        return Ok(place);
    }
    clock_watch::report(ctx, ahead, now).await?;
    Ok(seen)
}

/// Starts the run of a buffered instant if the open run has ended. Returns whether an instant still waits.
async fn buffered(ctx: &Ctx, job: &JobSpec, now: Timestamp) -> Result<bool, StoreError> {
    if job.ticks.overlap != Overlap::BufferOne {
        return Ok(false);
    }
    let (_, waits) = ctx.store.jobs().start_buffered(&job.name, now).await?;
    Ok(waits)
}
