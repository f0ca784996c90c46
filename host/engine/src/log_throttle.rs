//! Log throttle: one message of a kind per second, for messages that could repeat a thousand times a second
//! while a database is unavailable.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const REST: Duration = Duration::from_secs(1);

pub struct LogThrottle(Mutex<Said>);

struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl LogThrottle {
    pub const fn new() -> LogThrottle {
        LogThrottle(Mutex::new(Said { last: None, unsaid: 0 }))
    }

    /// Returns the number of suppressed messages since the last one, if this message may be logged now.
    pub fn may(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < REST) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.unsaid))
    }
}

impl Default for LogThrottle {
    fn default() -> LogThrottle {
        LogThrottle::new()
    }
}
