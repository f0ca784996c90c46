//! The measurements, as one JSON line.

use std::time::Duration;

use crate::check::Verdict;

#[derive(Default)]
pub struct Figures {
    /// From each rename to the first item that the new version finished.
    first_item: Vec<Duration>,
    memory: Vec<Memory>,
    backlog: Vec<i64>,
}

/// Memory of the host's process.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub all_kib: i64,
    /// Without mapped files.
    pub own_kib: i64,
}

impl Figures {
    pub fn note(&mut self, first_item: Duration, memory: Memory, backlog: i64) {
        self.first_item.push(first_item);
        self.memory.push(memory);
        self.backlog.push(backlog);
    }

    pub fn print(&self, verdict: &Verdict) {
        // Written manually, so that the fields keep their order.
        println!(
            "{{\"swaps\":{},\"lost\":{},\"twice\":{},\"rename_to_first_item_ms_p50\":{},\
             \"rename_to_first_item_ms_p99\":{},\"rss_growth_kib\":{}}}",
            self.first_item.len(),
            verdict.lost.len(),
            verdict.twice.len(),
            self.percentile_ms(50),
            self.percentile_ms(99),
            self.growth_kib(|memory| memory.all_kib),
        );
        eprintln!(
            "{} items; {} and more waited; KiB of memory, and of that the host's own, by tenths: {:?}, {:?}",
            verdict.items,
            self.backlog.iter().min().copied().unwrap_or_default(),
            self.tenths_kib(|memory| memory.all_kib),
            self.tenths_kib(|memory| memory.own_kib),
        );
    }

    /// The reasons why this run proves nothing.
    pub fn failures(&self) -> Vec<String> {
        let idle = self.backlog.iter().filter(|backlog| **backlog == 0).count();
        let idle = (idle > 0).then(|| format!("after {idle} swaps nothing waited: this was not full load"));
        idle.into_iter().collect()
    }

    fn percentile_ms(&self, percent: usize) -> u128 {
        let mut sorted = self.first_item.clone();
        sorted.sort();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(0, Duration::as_millis)
    }

    /// Growth from the second tenth of the swaps, when caches are warm, to the last one.
    fn growth_kib(&self, of: fn(&Memory) -> i64) -> i64 {
        let tenths = self.tenths_kib(of);
        let warm = tenths.get(1).or(tenths.first()).copied().unwrap_or_default();
        tenths.last().map_or(0, |last| last - warm)
    }

    /// The median of each tenth of the swaps.
    fn tenths_kib(&self, of: fn(&Memory) -> i64) -> Vec<i64> {
        let kib: Vec<i64> = self.memory.iter().map(of).collect();
        let median = |tenth: &[i64]| {
            let mut sorted = tenth.to_vec();
            sorted.sort();
            sorted.get(sorted.len() / 2).copied().unwrap_or_default()
        };
        kib.chunks((kib.len() / 10).max(1)).map(median).collect()
    }
}
