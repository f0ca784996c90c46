//! Effects that an attempt requests in addition to its answer. They take effect together with the outcome, or
//! never.

use uuid::Uuid;

use crate::alert::Alert;
use crate::bounds::{check_data, check_key, check_key_or_none, check_text};
use crate::id::{EventId, JobName};
use crate::job::{Capability, JobSpec};
use crate::limits::Limits;
use crate::scope_error::ScopeError;
use crate::text::is_hidden;

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Event(Event),
    Alert(Alert),
    Audit(AuditRecord),
    Item(NewItem),
    Metric(Metric),
}

impl Effect {
    /// Checks whether the job may request this effect: its grants, then the effect's content. Returns the
    /// effect as it is stored.
    pub fn checked(mut self, job: &JobSpec) -> Result<Effect, ScopeError> {
        self.check_grant(job)?;
        self.check_content(&job.limits)?;
        Ok(self)
    }

    fn check_grant(&self, job: &JobSpec) -> Result<(), ScopeError> {
        match self {
            Effect::Event(Event { topic, .. }) => match job.grants.topics.contains(topic) {
                true => Ok(()),
                false => Err(job.not_granted(format!("topic {topic:?}"))),
            },
            Effect::Alert(_) => job.check_granted(Capability::Alerts),
            Effect::Audit(_) => job.check_granted(Capability::Audit),
            Effect::Item(NewItem { job: target, .. }) => match job.grants.items.contains(target) {
                true => Ok(()),
                false => Err(job.not_granted(format!("to add items to job {:?}", target.as_str()))),
            },
            Effect::Metric(_) => job.check_granted(Capability::Metrics),
        }
    }

    /// Also makes hidden characters of texts for people visible.
    fn check_content(&mut self, limits: &Limits) -> Result<(), ScopeError> {
        match self {
            Effect::Event(Event { key, payload, .. }) => {
                check_key("an event key", key)?;
                check_data("a payload", payload, limits.payload_bytes)
            }
            Effect::Alert(Alert { kind, key, message, metadata, .. }) => {
                check_key("a kind", kind)?;
                check_key_or_none("an alert's key", key)?;
                check_text("a message", message, limits.text_bytes)?;
                check_data("metadata", metadata, limits.payload_bytes)
            }
            Effect::Audit(AuditRecord { action, subject, detail }) => {
                check_key("an action", action)?;
                check_key_or_none("a subject", subject)?;
                check_text("a detail", detail, limits.text_bytes)
            }
            Effect::Item(NewItem { key, payload, .. }) => {
                check_key("a key", key)?;
                check_data("a payload", payload, limits.payload_bytes)
            }
            Effect::Metric(metric) => metric.refused().map_or(Ok(()), |why| Err(ScopeError::Refused(why))),
        }
    }

    /// The plural noun for effects of this kind, and how many of them an attempt may request.
    pub fn count_limit(&self, limits: &Limits) -> (&'static str, usize) {
        match self {
            Effect::Event(_) => ("events", limits.events),
            Effect::Alert(_) => ("alerts", limits.alerts),
            Effect::Audit(_) => ("audit records", limits.audit_records),
            Effect::Item(_) => ("items", limits.items),
            Effect::Metric(_) => ("metrics", limits.metrics),
        }
    }

    /// The size that counts as the attempt's use of the host.
    pub fn bytes(&self) -> usize {
        match self {
            Effect::Event(Event { key, payload, .. }) => key.len() + payload.len(),
            Effect::Alert(Alert { message, metadata, .. }) => message.len() + metadata.len(),
            Effect::Audit(AuditRecord { subject, detail, .. }) => subject.len() + detail.len(),
            Effect::Item(NewItem { key, payload, .. }) => key.len() + payload.len(),
            Effect::Metric(Metric { name, .. }) => name.len(),
        }
    }
}

/// An event for other systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Set by the scope that accepts the event, like `seq`.
    pub id: EventId,
    /// Orders the events of one host.
    pub seq: i64,
    pub topic: String,
    pub key: String,
    pub payload: String,
}

impl Event {
    pub fn new(topic: impl Into<String>, key: impl Into<String>, payload: impl Into<String>) -> Event {
        let id = EventId(Uuid::nil());
        Event { id, seq: 0, topic: topic.into(), key: key.into(), payload: payload.into() }
    }
}

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
pub const METRIC_NAME_BYTES_MAX: usize = 128;
/// Most labels of one metric.
pub const METRIC_LABELS_MAX: usize = 8;
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
        if labels.len() > METRIC_LABELS_MAX {
            return Some(format!("{} labels, at most {METRIC_LABELS_MAX}", labels.len()));
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
                _ if value.len() > METRIC_NAME_BYTES_MAX => {
                    Some(format!("the value of label {label:?} has more than {METRIC_NAME_BYTES_MAX} bytes"))
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
    first && name.len() <= METRIC_NAME_BYTES_MAX && name.chars().all(|c| start(c) || c.is_ascii_digit())
}
