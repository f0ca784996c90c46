//! Request and response types of schedules.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// When a job was paused, and by whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    pub by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paused {
    pub paused: bool,
    /// `false` means that the state was the same before.
    pub changed: bool,
    /// After all jobs were resumed: jobs that remain paused because they have their own pause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_paused: Vec<String>,
    /// Further information for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticks {
    pub ticks: Vec<Tick>,
}

/// A due instant and its result: `ran`, `buffered`, `overlap`, `coalesced`, `missed`, `late` or `paused`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tick {
    pub at: Timestamp,
    pub fate: String,
    pub run_id: Option<String>,
}

/// Settings made over the API. They override the file until they are cleared.
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
