//! Periodic checks: finds jobs that do not run although they should, and removes old rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::alert::{Alert, Severity};
use domain::id::JobName;
use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::ctx::Ctx;
use crate::metrics;
use crate::timer::{in_time, until};

/// Interval of the removal of old rows.
const PRUNE_PERIOD: SignedDuration = SignedDuration::from_hours(1);
const MISSED: &str = "JOB_HEARTBEAT_MISSED";

pub async fn run(ctx: Arc<Ctx>) {
    let mut looked_at = ctx.clock.now();
    // After a suspension of the machine every job looks late for a moment, so the first
    // check only suspects it.
    let mut late = BTreeSet::new();
    // No old row is removed soon after the clock was set: by the correct clock it may be recent.
    let mut pruned_at = looked_at;
    loop {
        let next = looked_at.checked_add(ctx.config.upkeep_period).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = until(&ctx.clock, Some(next)) => {}
        }
        looked_at = ctx.clock.now();
        match in_time(round(&ctx, &mut late, looked_at)).await {
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

async fn round(ctx: &Ctx, late: &mut BTreeSet<JobName>, now: Timestamp) -> Result<(), StoreError> {
    for job in ctx.jobs().iter() {
        match missed_since(ctx, job, now).await? {
            None => drop(late.remove(&job.name)),
            // The first time it is only suspected.
            Some(_) if late.insert(job.name.clone()) => {}
            Some(since) => {
                tracing::warn!(job = %job.name, %since, code = MISSED, attempt = 0, "the job has not run although it was due");
                ctx.store.alerts().raise(&job.name, &missed(job, since), now).await?;
            }
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

/// The time of the job's last run, if the job was due twice since.
async fn missed_since(ctx: &Ctx, job: &JobSpec, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let last = ctx.store.jobs().heartbeat(&job.name).await?;
    let second = job.schedule.next_after(last).and_then(|first| job.schedule.next_after(first));
    let limit = second.and_then(|second| second.checked_add(ctx.config.heartbeat_slack).ok());
    Ok(limit.filter(|limit| *limit < now).map(|_| last))
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
