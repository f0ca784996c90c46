//! When this host's clock was set, and what may be concluded from the time since then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::clock::{AHEAD_MIN, Clock};
use jiff::SignedDuration;
use store::{Store, StoreError};

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
