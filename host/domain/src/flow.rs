//! How much of a job may run at a time, how fast it may begin, and whose turn it is.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// How much longer a job waits for its turn than one of the next higher priority.
pub const PRIORITY_STEP: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Attempts that one host runs at the same time.
    pub concurrency: u32,
    /// Attempts that all hosts together run at the same time.
    pub concurrency_total: Option<u32>,
    /// The same, of items whose keys begin alike.
    pub per_prefix: Option<PerPrefix>,
    /// Items that one run may queue; the others are found again by the next run.
    pub items_per_run_max: Option<u32>,
    /// Attempts that all hosts together may start in a window of time.
    pub rate: Option<Rate>,
    /// 1 is first, 9 is last.
    pub priority: u8,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            concurrency: 4,
            concurrency_total: None,
            per_prefix: None,
            items_per_run_max: None,
            rate: None,
            priority: 5,
        }
    }
}

impl Flow {
    /// Whether what other hosts do decides how much may be claimed.
    pub fn is_shared(&self) -> bool {
        self.has_places() || self.rate.is_some()
    }

    /// Whether an attempt that ends on any host makes room on all.
    pub fn has_places(&self) -> bool {
        self.concurrency_total.is_some() || self.per_prefix.is_some()
    }

    /// Of jobs that wait for the same room, the earliest turn is next: who waits long enough comes before any priority.
    pub fn turn(&self, due: Timestamp) -> Timestamp {
        due.checked_add(PRIORITY_STEP * i32::from(self.priority)).unwrap_or(Timestamp::MAX)
    }
}

/// Attempts at the same time, over all hosts, for each beginning of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerPrefix {
    pub concurrency: u32,
    /// The prefix ends before the first of these; a key without one is its own prefix.
    pub separator: String,
}

impl PerPrefix {
    pub fn of<'k>(&self, key: &'k str) -> &'k str {
        key.split_once(&self.separator).map_or(key, |(prefix, _)| prefix)
    }

    /// Which of these keys may begin beside those that `run`, in order.
    pub fn admits<'k>(&self, running: &[&'k str], keys: &[&'k str]) -> Vec<&'k str> {
        let mut counts = self.counts(running);
        let admitted = keys.iter().filter(|key| {
            let count = counts.entry(self.of(key)).or_default();
            *count += 1;
            *count <= self.concurrency
        });
        admitted.copied().collect()
    }

    /// Prefixes that have no room beside those that `run`.
    pub fn full<'k>(&self, running: &[&'k str]) -> Vec<&'k str> {
        let mut full: Vec<&str> = self
            .counts(running)
            .into_iter()
            .filter(|(_, count)| *count >= self.concurrency)
            .map(|(prefix, _)| prefix)
            .collect();
        full.sort_unstable();
        full
    }

    fn counts<'k>(&self, keys: &[&'k str]) -> HashMap<&'k str, u32> {
        let mut counts = HashMap::new();
        keys.iter().for_each(|key| *counts.entry(self.of(key)).or_default() += 1);
        counts
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub attempts_max: u32,
    pub window: SignedDuration,
}

impl Rate {
    /// Where the window that holds `now` began, in milliseconds since 1970: the same on all hosts.
    pub fn window_start(&self, now: Timestamp) -> i64 {
        let width = self.width_ms();
        now.as_millisecond().div_euclid(width) * width
    }

    /// When the next window begins.
    pub fn next_window(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.window_start(now).checked_add(self.width_ms())?;
        Timestamp::from_millisecond(start).ok()
    }

    fn width_ms(&self) -> i64 {
        i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX).max(1)
    }
}
