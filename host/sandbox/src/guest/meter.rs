//! Measures a guest's CPU time: the time inside the polls of its call. Waiting for a host call happens
//! between polls and is not counted. (Counting epoch ticks instead would charge a whole tick for every short
//! wait.)

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::guest::cpu_permits::CpuPermit;

#[derive(Clone, Default)]
pub struct CpuMeter(Arc<Mutex<Reading>>);

#[derive(Default)]
struct Reading {
    used: Duration,
    running_since: Option<Instant>,
    /// Released whenever the call waits.
    turn: Option<CpuPermit>,
}

impl CpuMeter {
    pub fn used(&self) -> Duration {
        let reading = self.reading();
        let running = reading.running_since.map_or(Duration::ZERO, |since| since.elapsed());
        reading.used.saturating_add(running)
    }

    pub fn take_turn(&self, turn: Option<CpuPermit>) {
        self.reading().turn = turn;
    }

    fn resume(&self) {
        self.reading().running_since = Some(Instant::now());
    }

    fn pause(&self) {
        let used = self.used();
        *self.reading() = Reading { used, running_since: None, turn: None };
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A measured call. A panic in a host function becomes an error of this call only.
pub struct Metered<F> {
    call: Pin<Box<F>>,
    meter: CpuMeter,
}

impl<F> Metered<F> {
    pub fn new(call: F, meter: CpuMeter) -> Metered<F> {
        Metered { call: Box::pin(call), meter }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.meter.resume();
        let polled = catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(cx)));
        self.meter.pause();
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
