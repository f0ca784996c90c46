//! Effects that an attempt requests in addition to its answer. They take effect together with the outcome, or
//! never.

use crate::id::JobName;
use crate::text::is_hidden;

/// An audit record of the guest. The job is its actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub action: String,
    pub subject: String,
    pub detail: String,
}

/// An item for a job, added as if a discovery had found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    pub job: JobName,
    pub key: String,
    pub payload: String,
}

/// A metric for `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Increments a counter.
    Add(u64),
    /// Sets a gauge.
    Set(f64),
}

/// Longest name of a metric or a label, and longest value of a label, in bytes.
pub const FIGURE_NAME_BYTES_MAX: usize = 128;
/// Most labels of one metric.
pub const FIGURE_LABELS_MAX: usize = 8;
/// Prefixes of the host's own metrics: a guest must not pass its metrics off as the host's.
const RESERVED: [&str; 3] = ["tidemill_", "job_runs_", "job_duration_"];
const RESERVED_NAMES: [&str; 1] = ["job_failures_total"];
/// The host sets this label to the metric's job.
const RESERVED_LABEL: &str = "job";
/// Labels and suffixes of histograms and summaries, which guests cannot report.
const HISTOGRAM_LABELS: [&str; 2] = ["le", "quantile"];
const HISTOGRAM_ENDINGS: [&str; 3] = ["_bucket", "_count", "_sum"];
/// The suffix of a counter's name.
const COUNTER_ENDING: &str = "_total";

impl Metric {
    /// Why Prometheus or the host refuses it, if so. The rules for names follow the data model in
    /// Prometheus's documentation.
    pub fn refused(&self) -> Option<String> {
        let Metric { name, labels, change } = self;
        if !well_formed(name) {
            return Some(format!("{name:?} is not a metric's name: use letters, digits and _"));
        }
        let shown = self.shown_name();
        if RESERVED.iter().any(|prefix| shown.starts_with(prefix)) || RESERVED_NAMES.contains(&shown.as_str())
        {
            return Some(format!("{name:?} is kept for the host's own metrics"));
        }
        if let Some(why) = self.ending_refused() {
            return Some(why);
        }
        if matches!(change, Change::Set(value) if !value.is_finite()) {
            return Some(format!("{name:?} is set to a value that is no number"));
        }
        if labels.len() > FIGURE_LABELS_MAX {
            return Some(format!("{} labels, at most {FIGURE_LABELS_MAX}", labels.len()));
        }
        labels.iter().enumerate().find_map(|(at, (label, value))| {
            let again = labels.iter().take(at).any(|(earlier, _)| earlier == label);
            match label.as_str() {
                RESERVED_LABEL => Some("the label \"job\" is set by the host".to_owned()),
                _ if HISTOGRAM_LABELS.contains(&label.as_str()) => {
                    Some(format!("the label {label:?} is kept for histograms and summaries"))
                }
                _ if !well_formed(label) => {
                    Some(format!("{label:?} is not a label's name: use letters, digits and _"))
                }
                _ if again => Some(format!("the label {label:?} is given twice")),
                _ if value.len() > FIGURE_NAME_BYTES_MAX => {
                    Some(format!("the value of label {label:?} has more than {FIGURE_NAME_BYTES_MAX} bytes"))
                }
                _ if value.contains(is_hidden) => {
                    Some(format!("the value of label {label:?} holds a control or invisible character"))
                }
                _ => None,
            }
        })
    }
}

impl Metric {
    /// The name at `/metrics`. A counter's name ends in `_total`.
    pub fn shown_name(&self) -> String {
        match self.change {
            Change::Add(_) if !self.name.ends_with(COUNTER_ENDING) => {
                format!("{}{COUNTER_ENDING}", self.name)
            }
            _ => self.name.clone(),
        }
    }

    /// Why the name's suffix is refused: Prometheus uses suffixes to distinguish the types of metrics.
    fn ending_refused(&self) -> Option<String> {
        let ends = |ending: &&&str| self.name.ends_with(**ending);
        let Some(ending) = HISTOGRAM_ENDINGS.iter().find(ends) else {
            let gauge = matches!(self.change, Change::Set(_)) && self.name.ends_with(COUNTER_ENDING);
            return gauge
                .then(|| format!("{:?} is set, but {COUNTER_ENDING:?} ends a counter's name", self.name));
        };
        Some(format!("{:?} ends in {ending:?}, which is kept for histograms and summaries", self.name))
    }
}

fn well_formed(name: &str) -> bool {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let first = name.chars().next().is_some_and(start) && !name.starts_with("__");
    first && name.len() <= FIGURE_NAME_BYTES_MAX && name.chars().all(|c| start(c) || c.is_ascii_digit())
}
