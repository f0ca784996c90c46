//! Renews leases while the store answers. If it does not, stops guests before another host
//! may claim their items.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domain::clock::{Clock, SLACK};
use domain::id::{AttemptId, JobName};
use jiff::{SignedDuration, Timestamp};
use store::hosts::Renewal;
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::ctx::Ctx;
use crate::identity;
use crate::metrics;
use crate::recovery;
use crate::timer::until;
use domain::engine_event::EngineEvent;

/// A connection can hang without an error: after this time, in real time, the store counts as unavailable.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(3);

/// Items claimed together. Their lease is renewed until every task that works on one of them has ended.
pub struct HeldClaim {
    ctx: Arc<Ctx>,
    attempt: AttemptId,
}

impl HeldClaim {
    pub fn new(ctx: &Arc<Ctx>, attempt: AttemptId) -> HeldClaim {
        HeldClaim { ctx: ctx.clone(), attempt }
    }
}

impl Drop for HeldClaim {
    /// However the work ended: items that are still open expire and are recovered.
    fn drop(&mut self) {
        self.ctx.store.items().let_go(self.attempt);
    }
}

/// Runs until the last attempt has ended, so that a slow attempt keeps its lease.
pub async fn run(ctx: Arc<Ctx>) {
    // After a restart of this loop, the next renewal is due one period after the last successful one.
    let mut looked_at = ctx.trust.renewed_at();
    let mut lost = ctx.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    loop {
        let wait = if lost { retry_period(&ctx) } else { ctx.config.lease_renewal };
        let next = looked_at.checked_add(wait).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = until(&ctx.clock, Some(next)) => {}
            _ = ctx.ended.cancelled() => return,
        }
        // The process itself may have been suspended: its guests must stop before it waits for the store.
        give_up_if_late(&ctx);
        looked_at = ctx.clock.now();
        let late = |_| {
            let why = ctx.store.connection_trouble();
            Err(StoreError::Unavailable(
                why.unwrap_or_else(|| format!("no answer within {RENEWAL_TIME_MAX:?}")),
            ))
        };
        let renewed = tokio::time::timeout(RENEWAL_TIME_MAX, renew(&ctx)).await.unwrap_or_else(late);
        let trouble = renewed.as_ref().err().map(ToString::to_string);
        *ctx.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        match renewed {
            Ok(now) => {
                looked_at = now;
                metrics::round_done("heartbeat", now);
                if std::mem::replace(&mut lost, false) && !ctx.displaced.is_cancelled() {
                    back(&ctx).await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut lost, true) {
                    tracing::warn!(%error, "leases could not be renewed");
                    ctx.store.feed().publish_here(EngineEvent::StoreLost);
                }
                give_up_if_late(&ctx);
            }
        }
    }
}

/// Returns the instant, by the database's clock, from which the leases count.
async fn renew(ctx: &Ctx) -> Result<Timestamp, StoreError> {
    let shown = ctx.clock.now();
    let by = set_clock(&ctx.clock, &ctx.store).await?;
    ctx.trust.shift(by);
    if ctx.steadiness.was_set(by) {
        ctx.clock_set.notify_one();
        // Recovery finds rows that were written in the meantime by this heartbeat.
        ctx.store.hosts().keep_heartbeat(ctx.host(), ctx.start.incarnation, shown).await?;
    }
    // Taken before the request is sent, because the answer may be late.
    let lease = ctx.lease();
    let was_late = ctx.trust.has_ended();
    match ctx.store.items().renew(lease).await? {
        Renewal::Renewed => ctx.trust.renewed(lease.now),
        Renewal::Unregistered => {
            ctx.trust.renewed(lease.now);
            identity::register_again(ctx).await?;
        }
        Renewal::Displaced(other) => identity::give_up(ctx, &other),
    }
    if was_late {
        // Nothing was claimed meanwhile.
        ctx.store.feed().wake_here();
    }
    Ok(lease.now)
}

/// Sets the clock, which all hosts share, by the database's. Between two readings only the elapsed real time
/// counts. Returns the correction. A reading that took too long is too inaccurate and is ignored.
pub async fn set_clock(clock: &Clock, store: &Store) -> Result<SignedDuration, StoreError> {
    let asked_at = clock.now();
    let now = store.now().await?;
    let took = clock.now().duration_since(asked_at);
    if took > SLACK {
        return Ok(SignedDuration::ZERO);
    }
    let by = clock.correct(now.checked_add(took / 2).unwrap_or(now));
    if !by.is_zero() {
        tracing::warn!(
            seconds = by.as_secs_f64(),
            "the clock of this host was corrected to the database's clock"
        );
    }
    Ok(by)
}

async fn back(ctx: &Ctx) {
    // Leases of stopped attempts may have expired.
    recovery::lapsed_now(ctx).await;
    tracing::info!("the store is back");
    ctx.store.feed().publish_here(EngineEvent::StoreBack);
}

fn retry_period(ctx: &Ctx) -> SignedDuration {
    (ctx.config.lease_renewal / 5).max(SignedDuration::from_millis(1))
}

/// Stops guests when another host may claim their items, except for jobs that continue without a lease. The
/// leases of the stopped attempts are no longer renewed, so that their items are recovered.
fn give_up_if_late(ctx: &Ctx) {
    if !ctx.trust.has_ended() {
        return;
    }
    let running = ctx.attempts.len();
    let mut leases = ctx.leases.lock().unwrap_or_else(PoisonError::into_inner);
    if running == 0 || leases.is_cancelled() {
        return;
    }
    let goes_on = |job: &JobName| ctx.job(job).is_some_and(|job| job.survives_store_loss());
    if ctx.store.items().let_lapse(ctx.host(), |job| !goes_on(job)) {
        tracing::warn!(
            running,
            "leases are lost: attempts are stopped, except those of jobs that continue without a lease"
        );
    }
    std::mem::replace(&mut *leases, CancellationToken::new()).cancel();
}
