//! How long a host may act on the leases it holds. A lease expires in the database. A host that was
//! suspended, or that cannot reach its store, has to detect this on its own, with a clock that is never set
//! back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;

/// One host's trust in its leases. It lasts for a fixed time after each renewal.
#[derive(Debug)]
pub struct Trust {
    clock: Clock,
    /// Its duration after a renewal: that of a lease, minus a margin.
    lasts: SignedDuration,
    /// Microseconds since 1970.
    renewed_at: AtomicI64,
}

impl Trust {
    /// Starts as if all leases had just been renewed.
    pub fn new(clock: Clock, lasts: SignedDuration) -> Trust {
        let renewed_at = AtomicI64::new(clock.now().as_microsecond());
        Trust { clock, lasts, renewed_at }
    }

    /// Leases count from the time at which the renewal request was sent, because its response may be late.
    pub fn renewed(&self, asked_at: Timestamp) {
        self.renewed_at.store(asked_at.as_microsecond(), Ordering::Release);
    }

    /// Time of the last renewal of all leases.
    pub fn renewed_at(&self) -> Timestamp {
        Timestamp::from_microsecond(self.renewed_at.load(Ordering::Acquire)).unwrap_or(Timestamp::MIN)
    }

    /// Keeps the age of the last renewal after the clock was set.
    pub fn shift(&self, by: SignedDuration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or_default();
        self.renewed_at.fetch_add(micros, Ordering::AcqRel);
    }

    /// Whether the last renewal is so old that other hosts may claim the items.
    pub fn has_ended(&self) -> bool {
        !self.covers(Timestamp::MIN)
    }

    /// Whether a claim made at this instant still belongs to this host.
    fn covers(&self, claimed_at: Timestamp) -> bool {
        let now = self.clock.now();
        // A claim time in the future was recorded before the clock was set back. Only the renewals show its
        // age then.
        let claimed_at = if claimed_at > now { Timestamp::MIN } else { claimed_at };
        let since = self.renewed_at.load(Ordering::Acquire).max(claimed_at.as_microsecond());
        i128::from(now.as_microsecond()) < i128::from(since) + self.lasts.as_micros()
    }
}

/// Whether the host may still act for one attempt.
#[derive(Debug, Clone)]
pub struct Hold(Option<(Arc<Trust>, Timestamp)>);

impl Hold {
    pub fn new(trust: Arc<Trust>, claimed_at: Timestamp) -> Hold {
        Hold(Some((trust, claimed_at)))
    }

    /// For a job that continues without a lease.
    pub fn without_end() -> Hold {
        Hold(None)
    }

    pub fn is_ours(&self) -> bool {
        self.0.as_ref().is_none_or(|(trust, claimed_at)| trust.covers(*claimed_at))
    }

    /// The current time, if the hold has an end.
    pub fn now(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|(trust, _)| trust.clock.now())
    }

    /// The instant until which the lease has to last, so that an operation of this real duration ends before it.
    /// `None` if the hold has no end.
    pub fn needs(&self, time: SignedDuration) -> Option<Timestamp> {
        let (trust, _) = self.0.as_ref()?;
        Some(trust.clock.now().checked_add(trust.clock.shown(time)).unwrap_or(Timestamp::MAX))
    }
}
