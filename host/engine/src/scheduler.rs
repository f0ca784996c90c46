//! Creates runs for due instants, once over all hosts.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::clock::AHEAD_MIN;
use domain::job::JobSpec;
use domain::schedule::Schedule;
use domain::schedule::tick::Overlap;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::clock_watch;
use crate::config::STORE_REST;
use crate::ctx::{Ctx, Jobs};
use crate::log_throttle::LogThrottle;
use crate::metrics;
use crate::timer::{in_time, until};

static WAITS: LogThrottle = LogThrottle::new();

/// Maximum sleep, so that a change of the clock is noticed.
const SLEEP_MAX: SignedDuration = SignedDuration::from_mins(1);
/// How long the places of schedules are not read again. Another host may have changed them.
const AGENDA_PERIOD: SignedDuration = SignedDuration::from_mins(10);
/// Interval of the checks whether the run has ended that a buffered instant waits for.
const BUFFER_REST: SignedDuration = SignedDuration::from_secs(1);

pub async fn run(ctx: Arc<Ctx>) {
    warn_of_the_last(&ctx);
    let mut agenda = Agenda::default();
    loop {
        let now = ctx.clock.now();
        let worked = match agenda.is_current(now) {
            true => true,
            false => renew(&ctx, &mut agenda, now).await,
        };
        let worked = worked && check_due(&ctx, &mut agenda, now).await;
        if worked {
            metrics::round_done("scheduler", now);
        }
        let latest = now.checked_add(SLEEP_MAX).unwrap_or(Timestamp::MAX);
        let next = agenda.first().map_or(latest, |first| first.min(latest));
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = ctx.jobs_changed.notified() => {
                warn_of_the_last(&ctx);
                agenda.forget();
            }
            _ = ctx.clock_set.notified() => agenda.forget(),
            _ = until(&ctx.clock, Some(next)), if worked => {}
            _ = tokio::time::sleep(STORE_REST), if !worked => {}
        }
    }
}

/// When each job is checked next: jobs that are not due cost nothing.
#[derive(Default)]
struct Agenda {
    jobs: Jobs,
    /// The time, and the position in `jobs`.
    checks: BTreeSet<(Timestamp, usize)>,
    /// When it has to be read again.
    until: Option<Timestamp>,
}

impl Agenda {
    fn is_current(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until && until.duration_since(now) <= AGENDA_PERIOD)
    }

    fn forget(&mut self) {
        self.until = None;
    }

    fn first(&self) -> Option<Timestamp> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// Takes the next job that is due.
    fn take(&mut self, now: Timestamp) -> Option<(usize, Arc<JobSpec>)> {
        let (_, place) = self.checks.first().filter(|(at, _)| *at <= now).copied()?;
        self.checks.pop_first();
        Some((place, self.jobs.get(place)?.clone()))
    }
}

/// Reads where all schedules are. Jobs with a due instant are checked at once, and so are jobs that may have a
/// buffered one.
async fn renew(ctx: &Ctx, agenda: &mut Agenda, now: Timestamp) -> bool {
    let places = match in_time(ctx.store.jobs().ticked_at_by_job()).await {
        // A job whose row is damaged is checked at once, and then its own check reports that.
        Ok(places) => places.rows,
        Err(error) => {
            waits(None, &error);
            return false;
        }
    };
    let jobs = ctx.jobs();
    let check = |(place, job): (usize, &Arc<JobSpec>)| {
        let seen = seen_by(job, now);
        let ticked_at = places.get(&job.name);
        let is_quiet = job.ticks.overlap != Overlap::BufferOne
            && ticked_at.is_some_and(|at| *at <= seen && job.schedule.due(*at, seen).is_none());
        let next = if is_quiet { job.next_after(now)? } else { now };
        Some((next, place))
    };
    agenda.checks = jobs.iter().enumerate().filter_map(check).collect();
    agenda.jobs = jobs;
    agenda.until = now.checked_add(AGENDA_PERIOD).ok();
    true
}

/// Checks the jobs that are due. Returns whether all were checked.
async fn check_due(ctx: &Ctx, agenda: &mut Agenda, now: Timestamp) -> bool {
    let mut next = Vec::new();
    let mut worked = true;
    while let Some((place, job)) = agenda.take(now) {
        match in_time(tick(ctx, &job, now)).await {
            Ok(due) => next.extend(due.map(|due| (due, place))),
            Err(error) => {
                waits(Some(&job), &error);
                next.push((now, place));
                worked = false;
            }
        }
    }
    agenda.checks.extend(next);
    worked
}

fn waits(job: Option<&JobSpec>, error: &StoreError) {
    if let Some(unsaid) = WAITS.may() {
        let job = job.map(|job| job.name.as_str());
        tracing::warn!(job, %error, unsaid, "the schedule waits for the store");
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
    let seen = seen_by(job, now);
    let after = place(ctx, job, seen, now).await?;
    let due = job.schedule.due(after, seen);
    // This host or another one may buffer the instant.
    let waits = waits || due.is_some() && job.ticks.overlap == Overlap::BufferOne;
    if let Some(due) = due
        && let Some(ticked) = ctx.store.jobs().tick(job, &due, seen, now).await?
    {
        let name = job.name.clone();
        tracing::debug!(job = %name, at = %due.at, fate = ticked.fate.as_str(), missed = due.missed.len(), "tick");
    }
    let next = job.next_after(now);
    let soon = waits.then(|| now.checked_add(BUFFER_REST).unwrap_or(Timestamp::MAX));
    Ok([next, soon].into_iter().flatten().min())
}

/// The time as the job's schedule sees it: earlier than `now` by its offset.
fn seen_by(job: &JobSpec, now: Timestamp) -> Timestamp {
    now.checked_sub(job.ticks.offset(job.name.as_str())).unwrap_or(now)
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
