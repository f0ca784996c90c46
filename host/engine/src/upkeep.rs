//! Periodic checks: finds jobs that do not run although they should, and removes old rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::alert::{Alert, Severity};
use domain::id::JobName;
use domain::job::JobSpec;
use domain::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::ctx::{Ctx, Jobs};
use crate::metrics;
use crate::timer::{in_time, until};

/// Interval of the removal of old rows.
const PRUNE_PERIOD: SignedDuration = SignedDuration::from_hours(1);
const MISSED: &str = "JOB_HEARTBEAT_MISSED";

pub async fn run(ctx: Arc<Ctx>) {
    let mut looked_at = ctx.clock.now();
    // After a suspension of the machine every job looks late for a moment, so the first
    // check only suspects it.
    let mut watched = Watched::default();
    // No old row is removed soon after the clock was set: by the correct clock it may be recent.
    let mut pruned_at = looked_at;
    loop {
        let next = looked_at.checked_add(ctx.config.upkeep_period).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = until(&ctx.clock, Some(next)) => {}
        }
        looked_at = ctx.clock.now();
        match in_time(round(&ctx, &mut watched, looked_at)).await {
            Ok(()) => metrics::round_done("upkeep", looked_at),
            Err(error) => tracing::warn!(%error, "the upkeep failed; it is tried again"),
        }
        if looked_at.duration_since(pruned_at) >= PRUNE_PERIOD && ctx.steadiness.is_steady() {
            pruned_at = looked_at;
            if let Err(error) = in_time(prune(&ctx, looked_at)).await {
                tracing::warn!(%error, "old rows could not be removed; it is tried again later");
            }
        }
    }
}

async fn prune(ctx: &Ctx, now: Timestamp) -> Result<(), StoreError> {
    let until = now.checked_sub(ctx.config.history_kept).unwrap_or(Timestamp::MIN);
    for job in ctx.jobs().iter() {
        let removed = ctx.store.history().prune(&job.name, until, now).await?;
        if removed > 0 {
            tracing::info!(job = %job.name, removed, "old rows were removed");
        }
    }
    ctx.store.locks().prune(until, now).await?;
    ctx.store.answers().prune(now).await?;
    Ok(())
}

/// What the checks know about the jobs.
#[derive(Default)]
struct Watched {
    jobs: Jobs,
    /// When a job is late unless it runs before. Until then it need not be checked.
    late_at: BTreeMap<JobName, Timestamp>,
    /// Jobs that the last check suspected.
    suspected: BTreeSet<JobName>,
}

async fn round(ctx: &Ctx, watched: &mut Watched, now: Timestamp) -> Result<(), StoreError> {
    let jobs = ctx.jobs();
    if !Arc::ptr_eq(&jobs, &watched.jobs) {
        let beats = ctx.store.jobs().heartbeats().await?;
        let late_at =
            |job: &Arc<JobSpec>| Some((job.name.clone(), late_at(ctx, job, *beats.rows.get(&job.name)?)?));
        watched.late_at = jobs.iter().filter_map(late_at).collect();
        watched.jobs = jobs.clone();
    }
    for job in jobs.iter().filter(|job| !matches!(job.schedule, Schedule::Manual)) {
        match watched.check(ctx, job, now).await {
            // A damaged row must not hold up the checks of other jobs.
            Err(error) if !error.is_passing() => {
                tracing::warn!(job = %job.name, %error, "whether the job is late cannot be checked");
            }
            checked => checked?,
        }
    }
    if !ctx.steadiness.is_steady() {
        return Ok(());
    }
    let before = |kept: SignedDuration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
    ctx.store.alerts().prune(before(ctx.config.alerts_kept), now).await?;
    ctx.store.hosts().prune(ctx.host(), before(ctx.config.hosts_kept), now).await?;
    Ok(())
}

impl Watched {
    /// Raises an alert if the job was late in two checks.
    async fn check(&mut self, ctx: &Ctx, job: &JobSpec, now: Timestamp) -> Result<(), StoreError> {
        if self.late_at.get(&job.name).is_some_and(|late_at| now <= *late_at) {
            self.suspected.remove(&job.name);
            return Ok(());
        }
        let last = ctx.store.jobs().heartbeat(&job.name).await?;
        let Some(late_at) = late_at(ctx, job, last) else { return Ok(()) };
        self.late_at.insert(job.name.clone(), late_at);
        if now <= late_at {
            self.suspected.remove(&job.name);
        } else if !self.suspected.insert(job.name.clone()) {
            tracing::warn!(job = %job.name, since = %last, code = MISSED, attempt = 0, "the job has not run although it was due");
            ctx.store.alerts().raise(&job.name, &missed(job, last), now).await?;
        }
        Ok(())
    }
}

/// When a job that ran last at `last` has been due twice since, and some more time has passed.
fn late_at(ctx: &Ctx, job: &JobSpec, last: Timestamp) -> Option<Timestamp> {
    let second = job.schedule.next_after(last).and_then(|first| job.schedule.next_after(first))?;
    second.checked_add(ctx.config.heartbeat_slack).ok()
}

fn missed(job: &JobSpec, since: Timestamp) -> Alert {
    let name = &job.name;
    let schedule = &job.schedule;
    Alert {
        kind: MISSED.to_owned(),
        key: "heartbeat".to_owned(),
        severity: Severity::Error,
        message: format!(
            "job {name} ({schedule}) has not run since {since:.0}: `tidemill jobs` says whether it is blocked, \
             `tidemill runs --job {name}` why it failed"
        ),
        metadata: format!("{{\"last_run_ms\":{}}}", since.as_millisecond()),
    }
}
