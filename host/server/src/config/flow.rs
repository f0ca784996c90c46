//! The keys of a job that limit its concurrency and set its priority.

use domain::flow::{Flow, PerPrefix};

use super::reader::Section;
use super::text;

const CONCURRENCY_MAX: u64 = 4_096;
const CONCURRENCY_TOTAL_MAX: u64 = 100_000;
const ITEMS_PER_RUN_MAX: u64 = 1_000_000;
const SEPARATOR_BYTES_MAX: usize = 16;

pub fn read(section: &mut Section<'_>) -> Flow {
    let default = Flow::default();
    let mut count = |key, most| section.count(key, 1..=most).map(|found| narrow(found.value));
    let concurrency = count("concurrency", CONCURRENCY_MAX);
    let concurrency_total = count("concurrency_total", CONCURRENCY_TOTAL_MAX);
    let concurrency_per_prefix = count("concurrency_per_prefix", CONCURRENCY_TOTAL_MAX);
    let items_per_run_max = count("items_per_run_max", ITEMS_PER_RUN_MAX);
    let priority = count("priority", 9).and_then(|priority| u8::try_from(priority).ok());
    let separator = separator(section, concurrency_per_prefix.is_some());
    Flow {
        concurrency: concurrency.unwrap_or(default.concurrency),
        concurrency_total,
        per_prefix: concurrency_per_prefix.map(|concurrency| PerPrefix { concurrency, separator }),
        items_per_run_max,
        rate: section.parsed("rate", text::RATE_REMEDY, text::rate).map(|found| found.value),
        priority: priority.unwrap_or(default.priority),
    }
}

fn separator(section: &mut Section<'_>, is_used: bool) -> String {
    let Some(found) = section.text("prefix_separator") else { return ":".to_owned() };
    if found.value.is_empty() || found.value.len() > SEPARATOR_BYTES_MAX {
        let remedy = format!("use 1 to {SEPARATOR_BYTES_MAX} bytes, like \":\"");
        section.blame_found(&found, "it ends no prefix", remedy);
    } else if !is_used {
        let what = "prefixes have no limit";
        section.blame_found(&found, what, "add concurrency_per_prefix = 1, or remove this");
    }
    found.value
}

/// Values are limited to much less than `u32::MAX` when they are read.
pub fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
