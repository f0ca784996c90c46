//! Where the time comes from. The rules take `now` as an argument; loops read a [`Clock`].
//!
//! Three kinds: the system's, one that runs faster (the demo), and one that stands still
//! until a test moves it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Scaled(Scaled),
    Manual(Manual),
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Scaled(scaled) => scaled.now(),
            Clock::Manual(manual) => manual.now(),
        }
    }

    /// A clock that shows `factor` seconds for each second that passes, from `origin` on.
    pub fn scaled(factor: f64, origin: Timestamp) -> Clock {
        Clock::Scaled(Scaled { factor, started: Instant::now(), origin })
    }

    pub fn manual(now: Timestamp) -> Clock {
        Clock::Manual(Manual(Arc::new(Mutex::new(Hands { now, sleepers: Vec::new() }))))
    }

    /// How long to really wait until this clock shows `at`; none if only a test can move it there.
    pub fn real_wait(&self, at: Timestamp) -> Option<Duration> {
        let left = at.duration_since(self.now()).max(SignedDuration::ZERO).unsigned_abs();
        match self {
            Clock::System => Some(left),
            Clock::Scaled(scaled) => Some(left.div_f64(scaled.factor)),
            Clock::Manual(_) => None,
        }
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

/// A clock that only [`Manual::advance`] moves.
#[derive(Debug, Clone)]
pub struct Manual(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Timestamp,
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

    /// Resolves when the clock shows `at` or later.
    pub fn reaches(&self, at: Timestamp) -> impl Future<Output = ()> + Send + use<> {
        Reaches { hands: self.0.clone(), at }
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reaches {
    hands: Arc<Mutex<Hands>>,
    at: Timestamp,
}

impl Future for Reaches {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        if hands.now >= self.at {
            return Poll::Ready(());
        }
        hands.sleepers.push(cx.waker().clone());
        Poll::Pending
    }
}
