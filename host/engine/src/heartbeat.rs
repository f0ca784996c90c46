//! Leases renewed while the store answers; guests stopped before leases can be taken if it does not.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::engine::Ctx;
use crate::feed::Happening;
use crate::timer::until;

/// A connection can hang without an error: past this, in real time, the store counts as away.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(3);

/// Runs until the last attempt has ended, so that a slow end keeps its lease.
pub async fn run(ctx: Arc<Ctx>) {
    let mut renewed_at = ctx.clock.now();
    let mut lost = false;
    loop {
        let wait = if lost { retry_period(&ctx) } else { ctx.config.lease_renewal };
        let next = ctx.clock.now().checked_add(wait).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = until(&ctx.clock, Some(next)) => {}
            _ = stopped(&ctx) => return,
        }
        // The lease counts from before the request was sent: an answer may be late.
        let began = ctx.clock.now();
        let renewal = tokio::time::timeout(RENEWAL_TIME_MAX, ctx.store.renew(ctx.lease()));
        let late = |_| Err(StoreError::Unavailable(format!("no answer within {RENEWAL_TIME_MAX:?}")));
        match renewal.await.unwrap_or_else(late) {
            Ok(()) => {
                renewed_at = began;
                if lost {
                    tracing::info!("the store is back");
                    ctx.feed.publish(Happening::StoreBack);
                }
                lost = false;
            }
            Err(error) => {
                if !lost {
                    tracing::warn!(%error, "leases could not be renewed");
                    ctx.feed.publish(Happening::StoreLost);
                }
                lost = true;
                give_up_if_late(&ctx, renewed_at);
            }
        }
    }
}

fn retry_period(ctx: &Ctx) -> SignedDuration {
    (ctx.config.lease_renewal / 5).max(SignedDuration::from_millis(1))
}

async fn stopped(ctx: &Ctx) {
    ctx.stop.cancelled().await;
    ctx.attempts.wait().await;
}

/// Past this point another host may take what we hold: our guests end first.
fn give_up_if_late(ctx: &Ctx, renewed_at: Timestamp) {
    let trusted = ctx.config.lease_ttl - ctx.config.lease_margin;
    if ctx.clock.now().duration_since(renewed_at) < trusted {
        return;
    }
    let mut leases = ctx.leases.lock().unwrap_or_else(PoisonError::into_inner);
    if ctx.attempts.is_empty() || leases.is_cancelled() {
        return;
    }
    tracing::warn!(running = ctx.attempts.len(), "leases are lost: attempts are stopped");
    std::mem::replace(&mut *leases, CancellationToken::new()).cancel();
}
