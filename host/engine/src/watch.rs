//! Detects clocks that were ahead: when this host's clock was set, and which records have
//! times after the present.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::clock::{AHEAD_MIN, Clock};
use jiff::{SignedDuration, Timestamp};
use store::{Store, StoreError};

use crate::engine::Ctx;

/// How long records must have times after the present before they are corrected, by the clock. A clock that
/// is behind for a moment has the same effect, and its return makes the records right again.
const CORRECT_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// How long the clock must run without a correction before old rows are removed by it, in real time.
const STEADY_MIN: Duration = Duration::from_secs(24 * 3_600);
/// A host that starts this long after the last heartbeat cannot distinguish a long stop from a
/// clock that is ahead.
const GAP_MIN: SignedDuration = SignedDuration::from_hours(24);

/// When this host's clock was last set by more than the clocks of hosts may differ.
#[derive(Default)]
pub struct Steadiness(Mutex<Option<Instant>>);

impl Steadiness {
    /// At the start: counts as just set if no host has sent a heartbeat for a long time.
    pub async fn at_start(clock: &Clock, store: &Store) -> Result<Steadiness, StoreError> {
        let steadiness = Steadiness::default();
        if let Clock::Steady(_) = clock
            && let Some(latest) = store.hosts().latest_heartbeat().await?
            && clock.now().duration_since(latest) > GAP_MIN
        {
            steadiness.was_set(GAP_MIN);
        }
        Ok(steadiness)
    }

    /// Records a correction of the clock. Returns whether it was large enough to matter.
    pub fn was_set(&self, by: SignedDuration) -> bool {
        let matters = by.abs() > AHEAD_MIN;
        if matters {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        matters
    }

    fn is_longer_than(&self, time: Duration) -> bool {
        let set_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set_at.is_none_or(|set_at| set_at.elapsed() >= time)
    }

    /// Whether rows that are old by this clock may be removed.
    pub fn is_steady(&self) -> bool {
        self.is_longer_than(STEADY_MIN)
    }

    /// Whether a lease that has expired by this clock has really expired. After the clock was set, each
    /// running host gets the duration of a lease to renew its leases by the same clock.
    pub fn tells_lapsed(&self, lease_ttl: SignedDuration) -> bool {
        self.is_longer_than(Duration::try_from(lease_ttl).unwrap_or_default())
    }
}

/// Scans for records with times after the present.
#[derive(Default)]
pub struct Watch {
    ahead_since: Option<Timestamp>,
}

impl Watch {
    pub async fn look(&mut self, ctx: &Ctx, now: Timestamp) -> Result<(), StoreError> {
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
