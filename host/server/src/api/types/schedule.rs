//! Schedules over the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Since when nothing of a job begins, and by whose word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    pub by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paused {
    pub paused: bool,
    /// `false` says that it was so before.
    pub changed: bool,
    /// After all jobs were resumed: those that have a pause of their own, and remain paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_paused: Vec<String>,
    /// What else holds, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticks {
    pub ticks: Vec<Tick>,
}

/// A due instant and what became of it: `ran`, `buffered`, `overlap`, `coalesced`, `missed`, `late` or `paused`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tick {
    pub at: Timestamp,
    pub fate: String,
    pub run_id: Option<String>,
}

/// What was set over the API, and wins over the file until it is cleared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edits {
    pub edits: Vec<Setting>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// As in the job's section of the file, like `retry.base`.
    pub key: String,
    pub value: Box<RawValue>,
    pub since: Timestamp,
    pub by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preview {
    pub schedule: String,
    pub instants: Vec<Timestamp>,
}
