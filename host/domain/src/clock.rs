//! Sources of time. The rules take `now` as an argument; loops read a [`Clock`].
//!
//! There are three kinds: `Steady` is corrected to the database's time, `Scaled` runs faster (for the demo),
//! and `Manual` moves only when a test moves it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone)]
pub enum Clock {
    Steady(Steady),
    Scaled(Scaled),
    Manual(Manual),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::Steady(steady) => steady.now(),
            Clock::Scaled(scaled) => scaled.now(),
            Clock::Manual(manual) => manual.now(),
        }
    }

    /// Starts at the system's time and then counts elapsed time. Later changes of the system's clock have no
    /// effect.
    pub fn steady() -> Clock {
        let origin = AtomicI64::new(Timestamp::now().as_microsecond());
        Clock::Steady(Steady { started: Instant::now(), origin: Arc::new(origin) })
    }

    /// Sets the clock and all its clones if the difference is larger than [`SLACK`]. Scaled and manual clocks
    /// are never set. Returns the difference applied.
    pub fn correct(&self, now: Timestamp) -> SignedDuration {
        let Clock::Steady(steady) = self else { return SignedDuration::ZERO };
        let by = now.duration_since(steady.now());
        if by.abs() <= SLACK {
            return SignedDuration::ZERO;
        }
        let micros = i64::try_from(by.as_micros()).unwrap_or_default();
        steady.origin.fetch_add(micros, Ordering::AcqRel);
        by
    }

    /// A clock that shows `factor` seconds for each second that passes, from `origin` on.
    pub fn scaled(factor: f64, origin: Timestamp) -> Clock {
        Clock::Scaled(Scaled { factor, started: Instant::now(), origin })
    }

    pub fn manual(now: Timestamp) -> Clock {
        Clock::Manual(Manual(Arc::new(Mutex::new(Hands { now, sets: 0, sleepers: Vec::new() }))))
    }

    /// How much this clock advances while `real` passes. For a manual clock this is `real`.
    pub fn shown(&self, real: SignedDuration) -> SignedDuration {
        match self {
            Clock::Scaled(scaled) => real.mul_f64(scaled.factor),
            Clock::Steady(_) | Clock::Manual(_) => real,
        }
    }

    /// Real time to wait until this clock shows `at`. `None` if only a test can move the clock.
    pub fn real_wait(&self, at: Timestamp) -> Option<Duration> {
        let left = at.duration_since(self.now()).max(SignedDuration::ZERO).unsigned_abs();
        match self {
            Clock::Steady(_) => Some(left),
            Clock::Scaled(scaled) => Some(left.div_f64(scaled.factor)),
            Clock::Manual(_) => None,
        }
    }
}

/// Smallest difference that is corrected: well below the margin of a lease, and more than a round trip to a
/// database.
pub const SLACK: SignedDuration = SignedDuration::from_millis(250);

/// A recorded time that is later than the present by more than this comes from a clock that was ahead. The
/// clocks of hosts differ by less, since each is set to the database's time.
pub const AHEAD_MIN: SignedDuration = SignedDuration::from_secs(5);

/// Microseconds since 1970 at the start, plus the time elapsed since.
#[derive(Debug, Clone)]
pub struct Steady {
    started: Instant,
    origin: Arc<AtomicI64>,
}

impl Steady {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        let micros = self.origin.load(Ordering::Acquire).saturating_add(passed);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Debug, Clone)]
pub struct Scaled {
    factor: f64,
    started: Instant,
    origin: Timestamp,
}

impl Scaled {
    fn now(&self) -> Timestamp {
        let shown = self.started.elapsed().mul_f64(self.factor);
        self.origin.checked_add(shown).unwrap_or(Timestamp::MAX)
    }
}

/// A clock that is moved only by [`Manual::advance`] and [`Manual::set`].
#[derive(Debug, Clone)]
pub struct Manual(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    /// Number of calls of `set`. Sleepers that started before a `set` have to check the clock again.
    sets: u64,
    sleepers: Vec<Waker>,
}

impl Manual {
    pub fn now(&self) -> Timestamp {
        self.hands().now
    }

    pub fn advance(&self, by: SignedDuration) {
        let mut hands = self.hands();
        hands.now = hands.now.checked_add(by).unwrap_or(Timestamp::MAX);
        hands.sleepers.drain(..).for_each(Waker::wake);
    }

    /// Sets the clock, forwards or backwards. Wakes all sleepers, because a real sleep ends whatever the
    /// clock shows.
    pub fn set(&self, now: Timestamp) {
        let mut hands = self.hands();
        hands.now = now;
        hands.sets += 1;
        hands.sleepers.drain(..).for_each(Waker::wake);
    }

    /// Resolves when the clock shows `at` or later, or when the clock was set.
    pub fn reaches(&self, at: Timestamp) -> impl Future<Output = ()> + Send + use<> {
        let sets = self.hands().sets;
        Reaches { hands: self.0.clone(), at, sets }
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reaches {
    hands: Arc<Mutex<Hands>>,
    at: Timestamp,
    sets: u64,
}

impl Future for Reaches {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        if hands.now >= self.at || hands.sets != self.sets {
            return Poll::Ready(());
        }
        hands.sleepers.push(cx.waker().clone());
        Poll::Pending
    }
}
