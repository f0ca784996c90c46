//! How long a host may rely on what it holds. A lease ends in the database; a host that was stopped, or that hears
//! nothing of its store, has to know by itself, by a clock that nobody sets back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// One host's trust in all that it holds: it lasts for a while after each renewal.
#[derive(Debug)]
pub struct Trust {
    clock: Clock,
    /// How long after a renewal: the lease, less a margin.
    lasts: SignedDuration,
    /// Microseconds since 1970.
    renewed_at: AtomicI64,
}

impl Trust {
    /// As if all had just been renewed.
    pub fn new(clock: Clock, lasts: SignedDuration) -> Trust {
        let renewed_at = AtomicI64::new(clock.now().as_microsecond());
        Trust { clock, lasts, renewed_at }
    }

    /// Leases count from before the request that renewed them was sent: its answer may be late.
    pub fn renewed(&self, asked_at: Timestamp) {
        self.renewed_at.store(asked_at.as_microsecond(), Ordering::Release);
    }

    /// When all was renewed last.
    pub fn renewed_at(&self) -> Timestamp {
        Timestamp::from_microsecond(self.renewed_at.load(Ordering::Acquire)).unwrap_or(Timestamp::MIN)
    }

    /// The clock was set: what was renewed is as old as it was before.
    pub fn shift(&self, by: SignedDuration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or_default();
        self.renewed_at.fetch_add(micros, Ordering::AcqRel);
    }

    /// Whether nothing was renewed for so long that others may take what was held then.
    pub fn has_ended(&self) -> bool {
        !self.covers(Timestamp::MIN)
    }

    /// Whether what was claimed at this instant is still this host's.
    fn covers(&self, claimed_at: Timestamp) -> bool {
        let now = self.clock.now();
        // A claim after the present was made before the clock was set back: only renewals tell how old it is.
        let claimed_at = if claimed_at > now { Timestamp::MIN } else { claimed_at };
        let since = self.renewed_at.load(Ordering::Acquire).max(claimed_at.as_microsecond());
        i128::from(now.as_microsecond()) < i128::from(since) + self.lasts.as_micros()
    }
}

/// What one attempt has of it: whether the host may still act for it.
#[derive(Debug, Clone)]
pub struct Hold(Option<(Arc<Trust>, Timestamp)>);

impl Hold {
    pub fn new(trust: Arc<Trust>, claimed_at: Timestamp) -> Hold {
        Hold(Some((trust, claimed_at)))
    }

    /// Of a job that goes on without a lease.
    pub fn without_end() -> Hold {
        Hold(None)
    }

    pub fn is_ours(&self) -> bool {
        self.0.as_ref().is_none_or(|(trust, claimed_at)| trust.covers(*claimed_at))
    }

    /// The time, where it is told.
    pub fn now(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|(trust, _)| trust.clock.now())
    }

    /// The instant that the lease has to outlast for something that really takes this long; none if it may take for ever.
    pub fn needs(&self, time: SignedDuration) -> Option<Timestamp> {
        let (trust, _) = self.0.as_ref()?;
        Some(trust.clock.now().checked_add(trust.clock.shown(time)).unwrap_or(Timestamp::MAX))
    }
}
