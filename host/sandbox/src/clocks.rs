//! The clocks that guests read. They show the sandbox's clock, in whole milliseconds: a finer one helps
//! nobody here but those who measure their neighbours.

use std::time::{Duration, Instant};

use domain::clock::Clock;
use jiff::Timestamp;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

const RESOLUTION: Duration = Duration::from_millis(1);
const NANOS_PER_MILLI: u64 = 1_000_000;

pub struct GuestWallClock(pub Clock);

impl HostWallClock for GuestWallClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now().as_millisecond()).unwrap_or(0))
    }
}

pub struct GuestMonotonicClock {
    clock: Clock,
    origin: Timestamp,
    started: Instant,
}

impl GuestMonotonicClock {
    pub fn new(clock: Clock) -> GuestMonotonicClock {
        GuestMonotonicClock { origin: clock.now(), clock, started: Instant::now() }
    }
}

impl HostMonotonicClock for GuestMonotonicClock {
    fn resolution(&self) -> u64 {
        NANOS_PER_MILLI
    }

    fn now(&self) -> u64 {
        let millis = match &self.clock {
            // The clock may be set back, an `Instant` cannot.
            Clock::Steady(_) => u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            shown => {
                let passed = shown.now().as_millisecond().saturating_sub(self.origin.as_millisecond());
                u64::try_from(passed).unwrap_or(0)
            }
        };
        millis.saturating_mul(NANOS_PER_MILLI)
    }
}
