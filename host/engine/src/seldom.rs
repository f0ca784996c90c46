//! Lines of a log that could come a thousand times a second while a database is away: one of a kind a second says as much.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const REST: Duration = Duration::from_secs(1);

pub struct Seldom(Mutex<Said>);

struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    pub const fn new() -> Seldom {
        Seldom(Mutex::new(Said { last: None, unsaid: 0 }))
    }

    /// Whether the line may be said now: with how many were not said since the last one.
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

impl Default for Seldom {
    fn default() -> Seldom {
        Seldom::new()
    }
}
