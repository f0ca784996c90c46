//! Puts back items whose host stopped working on them: at the start those that this host held before, then
//! periodically all whose lease has expired, and at once those of a process that has ended.

use std::sync::Arc;

use domain::id::{HostId, JobName};
use domain::retry::RetryPolicy;
use jiff::Timestamp;
use store::StoreError;
use store::hosts::presence::HostProcess;
use store::items::recovery::Recovered;

use crate::clock_watch::Watch;
use crate::ctx::Ctx;
use crate::metrics;
use crate::timer::{in_time, until};

/// Maximum of consecutive batches. Each puts back a bounded number of items.
const ROUNDS_MAX: usize = 1_000;

/// A failure here is logged and does not prevent the start: the loop tries again.
pub async fn at_start(ctx: &Ctx) {
    for _ in 0..ROUNDS_MAX {
        match recover(ctx, Some(ctx.host()), ctx.clock.now()).await {
            Ok(recovered) if recovered.is_empty() => return,
            Ok(recovered) => {
                tracing::info!(
                    items = recovered.len(),
                    "put back the items that this host held when it stopped"
                )
            }
            Err(error) => return tracing::warn!(%error, "recovery at the start failed; it is tried again"),
        }
    }
}

/// Puts back the items whose leases have ended, without waiting for the next scan. A failure here is logged: the loop
/// tries again.
pub async fn lapsed_now(ctx: &Ctx) {
    if let Err(error) = lapsed(ctx, ctx.clock.now()).await {
        tracing::warn!(%error, "recovery failed; it is tried again");
    }
}

pub async fn run(ctx: Arc<Ctx>) {
    let mut looked_at = ctx.clock.now();
    let mut watch = Watch::default();
    loop {
        let next = looked_at.checked_add(ctx.config.recovery_period).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = until(&ctx.clock, Some(next)) => {}
        }
        looked_at = ctx.clock.now();
        if let Err(error) = in_time(watch.check_times(&ctx, looked_at)).await {
            tracing::warn!(%error, "times in the future could not be corrected; it is tried again");
        }
        if let Err(error) = in_time(ctx.store.items().fold_counters()).await {
            tracing::warn!(%error, "the counts of items were not added up; it is tried again");
        }
        match lapsed(&ctx, looked_at).await {
            Ok(_) => metrics::round_done("recovery", looked_at),
            Err(error) => tracing::warn!(%error, "recovery failed; it is tried again"),
        }
    }
}

/// Puts back all items whose lease has expired. Does nothing soon after the clock was set, because leases may
/// then only appear to have expired.
pub async fn lapsed(ctx: &Ctx, now: Timestamp) -> Result<Vec<Recovered>, StoreError> {
    let mut all = Vec::new();
    if !ctx.steadiness.tells_lapsed(ctx.config.lease_ttl) {
        return Ok(all);
    }
    for _ in 0..ROUNDS_MAX {
        let recovered = recover(ctx, None, now).await?;
        if recovered.is_empty() {
            break;
        }
        tracing::warn!(items = recovered.len(), "put back items whose leases had expired");
        all.extend(recovered);
    }
    Ok(all)
}

/// Puts back the work of a process of another host that has ended. Returns whether it is settled. Soon after the clock
/// was set, leases decide instead.
pub async fn of_ended(ctx: &Ctx, process: &HostProcess) -> Result<bool, StoreError> {
    if !ctx.steadiness.tells_lapsed(ctx.config.lease_ttl) {
        return Ok(false);
    }
    let mut items = 0;
    for _ in 0..ROUNDS_MAX {
        let now = ctx.clock.now();
        let recovered = ctx.store.items().recover_ended(process, |job| crashes_max(ctx, job), now);
        let Some(recovered) = in_time(recovered).await? else { return Ok(true) };
        report(&recovered);
        items += recovered.len();
        if recovered.is_empty() {
            break;
        }
    }
    let HostProcess { host, incarnation, name } = process;
    tracing::warn!(%host, %incarnation, name, items, "the process of another host has ended: its work was put back");
    // No event reports that a run was released.
    ctx.store.feed().wake();
    Ok(true)
}

fn crashes_max(ctx: &Ctx, job: &JobName) -> u32 {
    ctx.job(job).map_or(RetryPolicy::DEFAULT.crashes_max, |job| job.retry.crashes_max)
}

async fn recover(ctx: &Ctx, former: Option<HostId>, now: Timestamp) -> Result<Vec<Recovered>, StoreError> {
    let crashes_max = |job: &JobName| crashes_max(ctx, job);
    let recovered = in_time(ctx.store.items().recover(former, crashes_max, now)).await?;
    report(&recovered);
    Ok(recovered)
}

fn report(recovered: &[Recovered]) {
    for item in recovered {
        tracing::info!(job = %item.job, item = %item.key, crashes = item.crashes, state = %item.state, "recovered");
        metrics::stuck(&item.job);
    }
}
