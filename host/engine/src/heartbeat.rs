//! Leases renewed while the store answers; guests stopped before leases can be taken if it does not.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domain::id::JobName;
use domain::job::{JobSpec, OnStoreLoss};
use jiff::{SignedDuration, Timestamp};
use store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::engine::Ctx;
use crate::feed::Happening;
use crate::figures;
use crate::recovery;
use crate::timer::until;

/// A connection can hang without an error: past this, in real time, the store counts as away.
const RENEWAL_TIME_MAX: Duration = Duration::from_secs(3);

/// Runs until the last attempt has ended, so that a slow end keeps its lease.
pub async fn run(ctx: Arc<Ctx>) {
    let mut renewed_at = ctx.clock.now();
    let mut began = renewed_at;
    let mut lost = false;
    let mut given_up = false;
    loop {
        let wait = if lost { retry_period(&ctx) } else { ctx.config.lease_renewal };
        let next = began.checked_add(wait).unwrap_or(Timestamp::MAX);
        tokio::select! {
            _ = until(&ctx.clock, Some(next)) => {}
            _ = stopped(&ctx) => return,
        }
        // The lease counts from before the request was sent: an answer may be late.
        began = ctx.clock.now();
        let renewal = tokio::time::timeout(RENEWAL_TIME_MAX, ctx.store.renew(ctx.lease()));
        let late = |_| Err(StoreError::Unavailable(format!("no answer within {RENEWAL_TIME_MAX:?}")));
        match renewal.await.unwrap_or_else(late) {
            Ok(()) => {
                renewed_at = began;
                given_up = false;
                figures::round_done("heartbeat", began);
                if lost {
                    // What was stopped may have lapsed by now: it need not wait for the next look.
                    if let Err(error) = recovery::lapsed(&ctx, ctx.clock.now()).await {
                        tracing::warn!(%error, "recovery failed; it is tried again");
                    }
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
                let running = ctx.attempts.len();
                if give_up_if_late(&ctx, renewed_at) && !std::mem::replace(&mut given_up, true) {
                    tracing::warn!(running, "leases are lost: attempts are stopped, but for jobs that go on");
                }
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

/// Past this point another host may take what we hold: our guests end first, but for jobs that said otherwise.
/// The leases of those that end are not renewed any more, so that their items are found. Says whether it was time.
fn give_up_if_late(ctx: &Ctx, renewed_at: Timestamp) -> bool {
    let trusted = ctx.config.lease_ttl - ctx.config.lease_margin;
    if ctx.clock.now().duration_since(renewed_at) < trusted {
        return false;
    }
    let mut leases = ctx.leases.lock().unwrap_or_else(PoisonError::into_inner);
    if ctx.attempts.is_empty() || leases.is_cancelled() {
        return false;
    }
    let goes_on = |job: &JobName| ctx.job(job).is_some_and(|job| continues(&job));
    ctx.store.let_lapse(ctx.host, |job| !goes_on(job));
    std::mem::replace(&mut *leases, CancellationToken::new()).cancel();
    true
}

/// Whether attempts of a job go on without a lease.
pub fn continues(job: &JobSpec) -> bool {
    job.on_store_loss == OnStoreLoss::ContinueIdempotent
}
