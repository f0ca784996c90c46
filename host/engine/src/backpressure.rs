//! A machine without a resource (memory, open files, threads) fails attempts that did nothing wrong. The
//! host then runs fewer attempts at a time, and more again as attempts end without such a failure:
//! additive increase, multiplicative decrease.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::failure::ErrorInfo;

use crate::log_throttle::LogThrottle;

static WAITS: LogThrottle = LogThrottle::new();

/// How long no attempt starts after a failure, in real time. Doubles with each consecutive
/// failure, up to `REST_MAX`.
const REST_MIN: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(30);

/// How long the host reports a failure.
const REPORTED: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Backpressure(Mutex<State>);

#[derive(Default)]
struct State {
    /// Maximum of running attempts; `None` is no limit.
    limit: Option<usize>,
    /// Failures since an attempt last ended without one.
    failures: u32,
    last: Option<Last>,
}

struct Last {
    what: String,
    at: Instant,
    /// No attempt starts before this time.
    rest_until: Instant,
    /// Not reported as an alert yet.
    is_new: bool,
}

impl Backpressure {
    /// Records an attempt that failed for lack of a resource. `running` includes that attempt.
    pub fn failed(&self, error: &ErrorInfo, running: usize) {
        let mut state = self.state();
        let now = Instant::now();
        // Attempts that started together fail together, which counts as one failure.
        if state.last.as_ref().is_some_and(|last| now < last.rest_until) {
            return;
        }
        let limit = (state.limit.unwrap_or(running).min(running) / 2).max(1);
        let rest = REST_MIN.saturating_mul(1 << state.failures.min(6)).min(REST_MAX);
        state.limit = Some(limit);
        state.failures = state.failures.saturating_add(1);
        let what = error.message.clone();
        state.last = Some(Last { what, at: now, rest_until: now + rest, is_new: true });
        if let Some(unsaid) = WAITS.may() {
            tracing::error!(code = %error.code, reason = %error.message, limit, ?rest, unsaid, "attempts fail because of this host; it runs fewer at a time");
        }
    }

    /// Records an attempt that ended without a failure of this host.
    pub fn worked(&self) {
        let mut state = self.state();
        state.failures = 0;
        if let Some(limit) = state.limit {
            let is_over = state.last.as_ref().is_none_or(|last| last.at.elapsed() >= REPORTED);
            state.limit = (!is_over).then_some(limit.saturating_add(1));
        }
    }

    /// How many attempts may start in addition to the running ones.
    pub fn room(&self, running: usize) -> usize {
        if self.rest().is_some() {
            return 0;
        }
        self.state().limit.map_or(usize::MAX, |limit| limit.saturating_sub(running))
    }

    /// How long from now no attempt may start.
    pub fn rest(&self) -> Option<Duration> {
        let until = self.state().last.as_ref()?.rest_until;
        until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    }

    /// The recent failure, as text for people.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        let last = state.last.as_ref().filter(|last| last.at.elapsed() < REPORTED)?;
        Some(last.what.clone())
    }

    /// Whether there is a failure that [`Backpressure::take_new`] has not returned.
    pub fn has_new(&self) -> bool {
        self.state().last.as_ref().is_some_and(|last| last.is_new)
    }

    /// The recent failure, once for each failure.
    pub fn take_new(&self) -> Option<String> {
        let mut state = self.state();
        let last = state.last.as_mut()?;
        std::mem::take(&mut last.is_new).then(|| last.what.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use domain::failure::HOST_RESOURCES;

    use super::*;

    fn no_memory() -> ErrorInfo {
        ErrorInfo::new(HOST_RESOURCES, "no memory")
    }

    #[test]
    fn a_failure_halves_what_runs_and_reports_itself() {
        let backpressure = Backpressure::default();
        assert_eq!(
            (backpressure.room(0), backpressure.trouble(), backpressure.take_new()),
            (usize::MAX, None, None)
        );
        backpressure.failed(&no_memory(), 16);
        backpressure.failed(&no_memory(), 15);
        assert_eq!(backpressure.room(0), 0, "it rests");
        assert!(backpressure.rest().unwrap() <= REST_MIN);
        assert_eq!(backpressure.state().limit, Some(8), "failures of attempts that began together are one");
        assert_eq!(backpressure.trouble().as_deref(), Some("no memory"));
        assert_eq!((backpressure.take_new().as_deref(), backpressure.take_new()), (Some("no memory"), None));
    }

    #[test]
    fn attempts_that_end_well_raise_the_limit() {
        let backpressure = Backpressure::default();
        backpressure.failed(&no_memory(), 4);
        backpressure.state().last.as_mut().unwrap().rest_until = Instant::now();
        assert_eq!((backpressure.room(0), backpressure.room(2), backpressure.room(9)), (2, 0, 0));
        backpressure.worked();
        assert_eq!(backpressure.room(2), 1);
        backpressure.state().last.as_mut().unwrap().at -= REPORTED;
        assert_eq!(backpressure.trouble(), None);
        backpressure.worked();
        assert_eq!(backpressure.room(9), usize::MAX);
    }

    #[test]
    fn the_rest_grows_and_is_bounded() {
        let backpressure = Backpressure::default();
        for _ in 0..100 {
            backpressure.failed(&no_memory(), 1);
            let mut state = backpressure.state();
            let last = state.last.as_mut().unwrap();
            assert!(last.rest_until - last.at <= REST_MAX);
            last.rest_until = Instant::now();
        }
        assert_eq!(backpressure.room(0), 1, "one at a time is tried for ever");
    }
}
