//! Flow control: how many attempts of a job may run at a time, how fast they may start, and the order among
//! jobs.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// How much longer a job waits than one of the next higher priority.
pub const PRIORITY_STEP: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Most attempts that run at the same time on one host.
    pub concurrency: u32,
    /// Most attempts that run at the same time on all hosts together.
    pub concurrency_total: Option<u32>,
    /// The same limit, for items whose keys have the same prefix.
    pub per_prefix: Option<PerPrefix>,
    /// Most items that one run may queue. The next run finds the others again.
    pub items_per_run_max: Option<u32>,
    /// Most attempts that all hosts together may start in a window of time.
    pub rate: Option<Rate>,
    /// 1 is the highest priority, 9 the lowest.
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
    /// Whether the number of items that may be claimed depends on other hosts.
    pub fn is_shared(&self) -> bool {
        self.has_places() || self.rate.is_some()
    }

    /// Whether an attempt that ends on any host frees capacity on all hosts.
    pub fn has_places(&self) -> bool {
        self.concurrency_total.is_some() || self.per_prefix.is_some()
    }

    /// The sort key among jobs that wait for the same capacity: the earliest is next. A job that has waited
    /// long enough comes before any priority.
    pub fn turn(&self, due: Timestamp) -> Timestamp {
        due.checked_add(PRIORITY_STEP * i32::from(self.priority)).unwrap_or(Timestamp::MAX)
    }
}

/// Limit of concurrent attempts over all hosts, for each key prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerPrefix {
    pub concurrency: u32,
    /// The prefix ends before the first separator. A key without a separator is its own prefix.
    pub separator: String,
}

impl PerPrefix {
    pub fn of<'k>(&self, key: &'k str) -> &'k str {
        key.split_once(&self.separator).map_or(key, |(prefix, _)| prefix)
    }

    /// The keys that may start beside the `running` ones, in order.
    pub fn admits<'k>(&self, running: &[&'k str], keys: &[&'k str]) -> Vec<&'k str> {
        let mut counts = self.counts(running);
        let admitted = keys.iter().filter(|key| {
            let count = counts.entry(self.of(key)).or_default();
            *count += 1;
            *count <= self.concurrency
        });
        admitted.copied().collect()
    }

    /// Prefixes without free capacity, given the `running` keys.
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
    /// Start of the window that contains `now`, in milliseconds since 1970. The same on all hosts.
    pub fn window_start(&self, now: Timestamp) -> i64 {
        let width = self.width_ms();
        now.as_millisecond().div_euclid(width) * width
    }

    /// Start of the next window.
    pub fn next_window(&self, now: Timestamp) -> Option<Timestamp> {
        let start = self.window_start(now).checked_add(self.width_ms())?;
        Timestamp::from_millisecond(start).ok()
    }

    fn width_ms(&self) -> i64 {
        i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX).max(1)
    }
}
