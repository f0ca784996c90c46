//! Alerts: conditions that require a person's attention.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::cut;

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Severity, String> {
        let found = Severity::ALL.into_iter().find(|severity| severity.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not a severity"))
    }
}

/// At most one alert is open for each (job, kind, key): raising it again increments its count and updates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// For machines, like `STOCK_REPLENISH_FAILED`.
    pub kind: String,
    pub key: String,
    pub severity: Severity,
    /// For people.
    pub message: String,
    /// A JSON document, or empty.
    pub metadata: String,
}

/// Settings of the alert that is raised when items of a job fail permanently: one alert for all such items of
/// a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAlert {
    pub kind: String,
    /// Severity is `Error` above this number of failed items, `Warning` otherwise.
    pub error_above: u32,
}

impl FailedAlert {
    pub const KIND: &str = "ITEMS_FAILED";
    pub const ERROR_ABOVE: u32 = 10;
}

impl Default for FailedAlert {
    fn default() -> FailedAlert {
        FailedAlert { kind: FailedAlert::KIND.to_owned(), error_above: FailedAlert::ERROR_ABOVE }
    }
}

/// A failed item that needs a person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedItem {
    pub key: String,
    pub payload: String,
    pub attempts: u32,
    pub code: String,
    pub message: String,
}

/// Most failed items named in a message.
const NAMED_MAX: usize = 10;
/// Most failed items listed in the metadata.
const LISTED_MAX: usize = 1_000;
const MESSAGE_BYTES_MAX: usize = 200;

/// The metadata of an alert about failed items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedItems {
    /// Number of all failed items, including those that are not listed.
    pub count: u32,
    pub items: Vec<FailedItem>,
}

impl FailedItems {
    /// Reads the list of an earlier alert. Empty if it cannot be parsed.
    pub fn parse(metadata: &str) -> FailedItems {
        serde_json::from_str(metadata).unwrap_or_default()
    }

    pub fn add(&mut self, item: FailedItem) {
        self.count = self.count.saturating_add(1);
        if self.items.len() < LISTED_MAX {
            self.items.push(item);
        }
    }

    /// The alert that covers all of them.
    pub fn alert(&self, job: &str, run: &str, settings: &FailedAlert) -> Alert {
        let severity = if self.count > settings.error_above { Severity::Error } else { Severity::Warning };
        let name = |item: &FailedItem| {
            format!("{} ({}: {})", item.key, item.code, cut(&item.message, MESSAGE_BYTES_MAX))
        };
        let named: Vec<String> = self.items.iter().take(NAMED_MAX).map(name).collect();
        let mut message = format!("{} of {job} failed for good: {}", self.count, named.join("; "));
        let more = (self.count as usize).saturating_sub(named.len());
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        Alert {
            kind: settings.kind.clone(),
            key: run.to_owned(),
            severity,
            message,
            metadata: serde_json::to_string(self).unwrap_or_default(),
        }
    }
}
