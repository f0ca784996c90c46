//! The metric families at `/metrics`: each name has one kind and one help text, for all jobs that report it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::effect::{Change, Metric};
use metrics::{describe_counter, describe_gauge, describe_histogram};

use self::Kind::{Counter, Gauge, Histogram};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The host's own metrics: name, kind and help text.
const OWN: [(&str, Kind, &str); 17] = [
    ("job_runs_total", Counter, "Discoveries that ended."),
    ("job_failures_total", Counter, "Discoveries and attempts that failed."),
    ("job_duration_seconds", Histogram, "Time of one call of the plugin."),
    ("job_stuck_detected_total", Counter, "Items whose host disappeared while they ran."),
    ("batch_items_resolved_total", Counter, "Attempts that resolved an item of a batch."),
    ("batch_items_manual_total", Counter, "Attempts after which an item of a batch needs a person."),
    ("batch_items_retried_total", Counter, "Attempts after which an item of a batch is tried again."),
    ("tidemill_attempts_total", Counter, "Attempts that ended, by verdict."),
    ("tidemill_items", Gauge, "Items now, by state."),
    ("tidemill_stale_refused_total", Counter, "Outcomes that were refused: their item had another holder."),
    ("tidemill_task_last_success_timestamp_seconds", Gauge, "Time of the last completed round of a loop."),
    ("tidemill_metrics_dropped_total", Counter, "Metrics of plugins that are not shown, by reason."),
    ("tidemill_guest_cpu_seconds", Histogram, "Time of the guest's own code in one call."),
    ("tidemill_host_calls_total", Counter, "Calls of guests that reached a database or a service."),
    ("tidemill_host_bytes_total", Counter, "Bytes that guests sent to or got from databases and services."),
    ("tidemill_http_connections_closed_total", Counter, "Connections closed to make room, by reason."),
    ("tidemill_http_refused_total", Counter, "Requests refused because all places were in use, by class."),
];

/// Help text of every metric of a plugin: the label names the job that reports it.
const OF_PLUGINS: &str = "Reported by the plugins of the jobs in the label.";

/// Registers the help texts of the host's own metrics with the recorder, after it is installed.
pub fn describe() {
    for (name, kind, help) in OWN {
        match kind {
            Counter => describe_counter!(name, help),
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, help),
        }
    }
}

/// The kind of each name that plugins have used.
#[derive(Debug, Default)]
pub struct Families(Mutex<BTreeMap<String, Kind>>);

impl Families {
    /// Checks that the metric fits the family of its name. The first metric of a name decides the kind.
    pub fn admit(&self, name: &str, metric: &Metric) -> Result<(), String> {
        let kind = match metric.change {
            Change::Add(_) => Counter,
            Change::Set(_) => Gauge,
        };
        let own = OWN.iter().find(|(own, ..)| *own == name).map(|(_, kind, _)| *kind);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = own.or_else(|| known.get(name).copied());
        if before.is_some_and(|before| before != kind) {
            return Err(format!(
                "{name:?} is a {} already, and cannot be a {} too",
                word(before),
                word(Some(kind))
            ));
        }
        if before.is_none() {
            if let Some(why) = style(name) {
                return Err(why);
            }
            known.insert(name.to_owned(), kind);
            match kind {
                Counter => describe_counter!(name.to_owned(), OF_PLUGINS),
                Gauge | Histogram => describe_gauge!(name.to_owned(), OF_PLUGINS),
            }
        }
        metric.labels.iter().find_map(|(label, _)| mixed_case(label)).map_or(Ok(()), Err)
    }
}

fn word(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Counter) => "counter",
        Some(Gauge) => "gauge",
        Some(Histogram) => "histogram",
        None => "metric",
    }
}

/// Words in a name that `promtool check metrics` refuses. Source: promlint in Prometheus's Go client.
const KINDS: [&str; 4] = ["counter", "gauge", "summary", "histogram"];
const SHORT_UNITS: [&str; 15] =
    ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d", "w"];
const BASE_UNITS: [&str; 10] =
    ["amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds", "volts"];
const OTHER_UNITS: [&str; 14] = [
    "minutes",
    "hours",
    "days",
    "weeks",
    "kelvins",
    "fahrenheit",
    "rankine",
    "inches",
    "yards",
    "miles",
    "bits",
    "calories",
    "pounds",
    "ounces",
];
const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi",
    "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

/// The reason why `promtool check metrics` would refuse the name.
fn style(name: &str) -> Option<String> {
    if let Some(why) = mixed_case(name) {
        return Some(why);
    }
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('_').collect();
    if let Some(word) =
        KINDS.iter().find(|word| lower.contains(&format!("_{word}")) || lower.ends_with(**word))
    {
        return Some(format!("{name:?} has the kind {word:?} in it: leave it out"));
    }
    if let Some(part) = parts.iter().skip(1).find(|part| SHORT_UNITS.contains(part)) {
        return Some(format!(
            "{name:?} has the abbreviated unit {part:?} in it: use a base unit like seconds or bytes"
        ));
    }
    let scaled = |part: &str| {
        let unit = PREFIXES.iter().find_map(|prefix| part.strip_prefix(prefix));
        unit.is_some_and(|unit| BASE_UNITS.contains(&unit) || OTHER_UNITS.contains(&unit))
    };
    let part = parts.iter().find(|part| OTHER_UNITS.contains(part) || scaled(part))?;
    Some(format!("{name:?} has the unit {part:?} in it: use a base unit like seconds or bytes"))
}

fn mixed_case(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let mixed = bytes
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    mixed.then(|| format!("{name:?} is in camelCase: use snake_case"))
}
