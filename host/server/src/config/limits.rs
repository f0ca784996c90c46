//! The limits that a job may set, each with the highest value.

use std::time::Duration;

use domain::limits::{CEILING, KIB, Limits, MIB};
use jiff::SignedDuration;

use super::error::Mistaken;
use super::keys::{self, Key, Time, show_time};
use super::reader::Section;
use super::text::show_bytes;

macro_rules! count {
    ($name:literal, $field:ident, $ceiling:expr) => {
        keys::count!($name, $field, 1..=$ceiling)
    };
}

macro_rules! bytes {
    ($name:literal, $field:ident, $ceiling:expr) => {
        keys::bytes!($name, $field, |bytes| below(bytes, $ceiling as u64, 1, show_bytes))
    };
}

macro_rules! time {
    ($name:literal, $field:ident, $ceiling:expr) => {
        keys::time!($name, $field, |time| below(time, $ceiling.signed(), MILLISECOND, show_time))
    };
}

const MILLISECOND: SignedDuration = SignedDuration::from_millis(1);

/// Each limit with the highest value that a job may set.
pub const KEYS: [Key<Limits>; 32] = [
    bytes!("memory", memory_bytes, CEILING.memory_bytes),
    time!("cpu_time", cpu_time, CEILING.cpu_time),
    time!("wall_time", wall_time, CEILING.wall_time),
    bytes!("hostcall", hostcall_bytes, 64 * MIB),
    count!("handles", handles, 65_536),
    bytes!("random", random_bytes, 16 * MIB),
    count!("items_per_page", items_per_page, 10_000),
    count!("pages_per_run", pages_per_run, 100_000),
    bytes!("payload", payload_bytes, 4 * MIB),
    bytes!("text", text_bytes, 64 * KIB),
    count!("log_lines", log_lines, 16_384),
    bytes!("log_line", log_line_bytes, 64 * KIB),
    bytes!("log", log_bytes, 4 * MIB),
    count!("sql_statements", sql_statements, 10_000),
    time!("sql_time", sql_time, Duration::from_secs(60)),
    count!("sql_rows", sql_rows, 100_000),
    bytes!("sql_result", sql_bytes, 64 * MIB),
    bytes!("kv_value", kv_value_bytes, 4 * MIB),
    count!("kv_keys_per_page", kv_keys_per_page, 10_000),
    count!("kv_keys", kv_keys, 1_000_000),
    count!("locks", locks, 256),
    count!("events", events, 4_096),
    count!("alerts", alerts, 256),
    count!("audit_records", audit_records, 4_096),
    count!("metrics", metrics, 4_096),
    count!("items", items, 4_096),
    count!("items_open", items_open, 10_000_000),
    count!("http_requests", http_requests, 256),
    count!("http_concurrent", http_concurrent, 16),
    time!("http_time", http_time, Duration::from_secs(60)),
    bytes!("http_request", http_request_bytes, 16 * MIB),
    bytes!("http_response", http_response_bytes, 64 * MIB),
];

/// Limits of a job. Keys that are not set keep their defaults.
pub fn read(mut section: Section<'_>) -> Limits {
    let mut limits = Limits::DEFAULT;
    keys::read(&KEYS, &mut section, &mut limits);
    section.finish();
    limits
}

fn below<V: Copy + PartialOrd>(
    value: V,
    ceiling: V,
    least: V,
    show: impl Fn(V) -> String,
) -> Result<(), Mistaken> {
    if value > ceiling {
        let what = format!("{} is above the ceiling of {}", show(value), show(ceiling));
        return Err((what, format!("use at most {}", show(ceiling))));
    }
    if value < least {
        return Err(("a limit of 0 lets nothing run".to_owned(), "use a larger value".to_owned()));
    }
    Ok(())
}
