//! Detects records with times after the present, because a clock was ahead, and corrects them.

use jiff::{SignedDuration, Timestamp};
use store::StoreError;

use crate::ctx::Ctx;

/// How long records must have times after the present before they are corrected, by the clock. A clock that
/// is behind for a moment has the same effect, and its return makes the records right again.
const CORRECT_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Scans for records with times after the present.
#[derive(Default)]
pub struct Watch {
    ahead_since: Option<Timestamp>,
}

impl Watch {
    pub async fn check_times(&mut self, ctx: &Ctx, now: Timestamp) -> Result<(), StoreError> {
        let Some(ahead) = ctx.store.hosts().clock_ahead(|| ctx.clock.now()).await? else {
            self.ahead_since = None;
            return Ok(());
        };
        let Some(since) = self.ahead_since.filter(|since| *since <= now) else {
            report(ctx, ahead, now).await?;
            self.ahead_since = Some(now);
            return Ok(());
        };
        if now.duration_since(since) < CORRECT_AFTER {
            return Ok(());
        }
        let rows = ctx.store.hosts().correct_times(ctx.lease().until, now).await?;
        tracing::warn!(rows, "times in the future were corrected");
        self.ahead_since = None;
        Ok(())
    }
}

/// Reports a clock jump in the log and as an alert.
pub async fn report(ctx: &Ctx, ahead: SignedDuration, now: Timestamp) -> Result<(), StoreError> {
    tracing::warn!(
        seconds = ahead.as_secs_f64(),
        code = store::hosts::clock::CLOCK_AHEAD,
        "the store has times in the future: a clock was ahead"
    );
    ctx.store.hosts().raise_clock_alert(ahead, now).await
}
