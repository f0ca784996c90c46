//! The limits that a job may set, as one table that is used for reading and for printing them.

use std::time::Duration;

use domain::limits::{CEILING, KIB, Limits, MIB};
use jiff::SignedDuration;

use super::reader::Section;
use super::text;

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Millis,
    Count,
}

pub struct LimitKey {
    pub key: &'static str,
    unit: Unit,
    ceiling: u64,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

// Values do not exceed their ceiling, which fits the width of every field, so the casts are lossless.
macro_rules! number {
    ($key:literal, $unit:ident, $field:ident, $ceiling:expr) => {
        LimitKey {
            key: $key,
            unit: Unit::$unit,
            ceiling: $ceiling as u64,
            get: |limits| limits.$field as u64,
            set: |limits, value| limits.$field = value as _,
        }
    };
}

macro_rules! time {
    ($key:literal, $field:ident, $ceiling:expr) => {
        LimitKey {
            key: $key,
            unit: Unit::Millis,
            ceiling: millis($ceiling),
            get: |limits| millis(limits.$field),
            set: |limits, value| limits.$field = Duration::from_millis(value),
        }
    };
}

/// Each limit with the highest value that a job may set.
pub const LIMITS: [LimitKey; 32] = [
    number!("memory", Bytes, memory_bytes, CEILING.memory_bytes),
    time!("cpu_time", cpu_time, CEILING.cpu_time),
    time!("wall_time", wall_time, CEILING.wall_time),
    number!("hostcall", Bytes, hostcall_bytes, 64 * MIB),
    number!("handles", Count, handles, 65_536),
    number!("random", Bytes, random_bytes, 16 * MIB),
    number!("items_per_page", Count, items_per_page, 10_000),
    number!("pages_per_run", Count, pages_per_run, 100_000),
    number!("payload", Bytes, payload_bytes, 4 * MIB),
    number!("text", Bytes, text_bytes, 64 * KIB),
    number!("log_lines", Count, log_lines, 16_384),
    number!("log_line", Bytes, log_line_bytes, 64 * KIB),
    number!("log", Bytes, log_bytes, 4 * MIB),
    number!("sql_statements", Count, sql_statements, 10_000),
    time!("sql_time", sql_time, Duration::from_secs(60)),
    number!("sql_rows", Count, sql_rows, 100_000),
    number!("sql_result", Bytes, sql_bytes, 64 * MIB),
    number!("kv_value", Bytes, kv_value_bytes, 4 * MIB),
    number!("kv_keys_per_page", Count, kv_keys_per_page, 10_000),
    number!("kv_keys", Count, kv_keys, 1_000_000),
    number!("locks", Count, locks, 256),
    number!("events", Count, events, 4_096),
    number!("alerts", Count, alerts, 256),
    number!("audit_records", Count, audit_records, 4_096),
    number!("figures", Count, metrics, 4_096),
    number!("items", Count, items, 4_096),
    number!("items_open", Count, items_open, 10_000_000),
    number!("http_requests", Count, http_requests, 256),
    number!("http_concurrent", Count, http_concurrent, 16),
    time!("http_time", http_time, Duration::from_secs(60)),
    number!("http_request", Bytes, http_request_bytes, 16 * MIB),
    number!("http_response", Bytes, http_response_bytes, 64 * MIB),
];

impl LimitKey {
    fn show_value(&self, value: u64) -> String {
        match self.unit {
            Unit::Bytes => text::show_bytes(value),
            Unit::Millis => show_millis(value),
            Unit::Count => value.to_string(),
        }
    }

    /// The value in `limits`, with its unit.
    pub fn show(&self, limits: &Limits) -> String {
        self.show_value((self.get)(limits))
    }

    /// The value as it is written in the file.
    pub fn show_toml(&self, limits: &Limits) -> String {
        match self.unit {
            Unit::Count => self.show(limits),
            Unit::Bytes | Unit::Millis => format!("{:?}", self.show(limits)),
        }
    }

    fn read(&self, section: &mut Section<'_>, limits: &mut Limits) {
        let found = match self.unit {
            Unit::Count => {
                if let Some(found) = section.count(self.key, 1..=self.ceiling) {
                    (self.set)(limits, found.value);
                }
                return;
            }
            Unit::Bytes => section.bytes(self.key),
            Unit::Millis => section.duration(self.key).map(|found| found_millis(&found)),
        };
        let Some(found) = found else { return };
        if found.value > self.ceiling {
            let ceiling = self.show_value(self.ceiling);
            let what = format!("{} is above the ceiling of {ceiling}", self.show_value(found.value));
            section.blame_found(&found, what, format!("use at most {ceiling}"));
        } else if found.value == 0 {
            section.blame_found(&found, "a limit of 0 lets nothing run", "use a larger value");
        } else {
            (self.set)(limits, found.value);
        }
    }
}

/// Reads the limits of a job. Keys that are not set keep their defaults.
pub fn read(mut section: Section<'_>) -> Limits {
    let mut limits = Limits::DEFAULT;
    for limit in &LIMITS {
        limit.read(&mut section, &mut limits);
    }
    section.finish();
    limits
}

fn found_millis(found: &super::reader::Located<SignedDuration>) -> super::reader::Located<u64> {
    super::reader::Located {
        value: millis(found.value.unsigned_abs()),
        at: found.at.clone(),
        key: found.key.clone(),
    }
}

/// Ceilings are hours at most, so a duration that does not fit exceeds all of them.
const fn millis(time: Duration) -> u64 {
    let millis = time.as_millis();
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

fn show_millis(value: u64) -> String {
    let millis = i64::try_from(value).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_millis(millis))
}
