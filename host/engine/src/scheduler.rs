//! Due instants become runs, once over all hosts.

use std::sync::Arc;

use domain::job::JobSpec;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::config::STORE_REST;
use crate::engine::Ctx;
use crate::feed::Happening;
use crate::timer::until;

/// Longest sleep, so that a clock that was set does not go unnoticed.
const SLEEP_MAX: SignedDuration = SignedDuration::from_mins(1);

pub async fn run(ctx: Arc<Ctx>) {
    loop {
        let now = ctx.clock.now();
        let mut failed = false;
        for job in &ctx.jobs {
            if let Err(error) = tick(&ctx, job, now).await {
                tracing::warn!(job = %job.name, %error, "the schedule waits for the store");
                failed = true;
            }
        }
        let next = ctx.jobs.iter().filter_map(|job| job.schedule.next_after(now)).min();
        let latest = now.checked_add(SLEEP_MAX).unwrap_or(Timestamp::MAX);
        let wake_at = next.map_or(latest, |next| next.min(latest));
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = until(&ctx.clock, Some(wake_at)), if !failed => {}
            _ = tokio::time::sleep(STORE_REST), if failed => {}
        }
    }
}

/// Decides what is due of one job. After an absence the last instant runs; those before it are kept as coalesced.
async fn tick(ctx: &Ctx, job: &JobSpec, now: Timestamp) -> Result<(), StoreError> {
    let after = ctx.store.ticked_at(&job.name).await?;
    let Some(due) = job.schedule.due(after, now) else { return Ok(()) };
    let Some(ticked) = ctx.store.tick(&job.name, &due, now).await? else { return Ok(()) };
    let name = job.name.clone();
    tracing::debug!(job = %name, at = %due.at, fate = ticked.fate.as_str(), missed = due.missed.len(), "tick");
    ctx.feed.publish(Happening::Ticked { job: name.clone(), fate: ticked.fate });
    if let Some(run) = ticked.run {
        ctx.feed.publish(Happening::RunStarted { job: name, run });
        ctx.store.wake();
    }
    Ok(())
}
