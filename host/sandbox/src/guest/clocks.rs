//! The clocks of guests. They show the sandbox's clock in whole milliseconds. A finer resolution would mainly
//! help timing attacks on other guests.

use std::time::{Duration, Instant};

use domain::clock::Clock;
use jiff::Timestamp;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

const RESOLUTION: Duration = Duration::from_millis(1);
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Value of the monotonic clock at the start of an attempt: one day. The origin is arbitrary, but guests
/// expect the values of real machines: Go aborts on an instant of 0, and subtracting a timeout from the
/// present must not underflow. The value is the same for each attempt, so it reveals nothing and a replay
/// sees the same.
const MONOTONIC_START_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// Some languages store an instant in a signed 64-bit integer.
const MONOTONIC_NANOS_MAX: u64 = i64::MAX as u64;

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
            // The clock may be set back; an `Instant` cannot.
            Clock::Steady(_) => u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            shown => {
                let passed = shown.now().as_millisecond().saturating_sub(self.origin.as_millisecond());
                u64::try_from(passed).unwrap_or(0)
            }
        };
        let nanos = millis.saturating_add(MONOTONIC_START_MILLIS).saturating_mul(NANOS_PER_MILLI);
        nanos.min(MONOTONIC_NANOS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn monotonic_time_starts_at_the_same_offset_and_keeps_to_its_resolution() {
        let epoch = Timestamp::UNIX_EPOCH;
        let clock = Clock::manual(epoch);
        let guest = GuestMonotonicClock::new(clock.clone());
        assert_eq!(guest.now(), MONOTONIC_START_MILLIS * NANOS_PER_MILLI);
        if let Clock::Manual(manual) = &clock {
            manual.advance(SignedDuration::from_micros(1_500));
        }
        assert_eq!(guest.now(), MONOTONIC_START_MILLIS * NANOS_PER_MILLI + guest.resolution());
        let steady = GuestMonotonicClock::new(Clock::steady());
        assert!(steady.now() >= MONOTONIC_START_MILLIS * NANOS_PER_MILLI);
        assert_eq!(steady.now() % steady.resolution(), 0);
    }

    #[test]
    fn monotonic_time_neither_wraps_nor_turns_negative() {
        let guest = GuestMonotonicClock {
            clock: Clock::manual(Timestamp::MAX),
            origin: Timestamp::MIN,
            started: Instant::now(),
        };
        assert_eq!(guest.now(), MONOTONIC_NANOS_MAX);
        let back =
            GuestMonotonicClock { clock: Clock::manual(Timestamp::MIN), origin: Timestamp::MAX, ..guest };
        assert_eq!(back.now(), MONOTONIC_START_MILLIS * NANOS_PER_MILLI);
    }

    #[test]
    fn wall_time_before_1970_is_shown_as_1970() {
        assert_eq!(GuestWallClock(Clock::manual(Timestamp::MIN)).now(), Duration::ZERO);
    }
}
