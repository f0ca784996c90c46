//! Request and response types of the API. Times are RFC 3339 text. The command line reads the same types.

use domain::outcome::ErrorInfo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod batch;
mod lock;
mod plugin;
mod recover;
mod replay;
mod result;
mod schedule;

pub use self::batch::{
    AddBatch, AddBatchItem, AddedBatch, Batch, BatchWithItems, Batches, InBatch, Processed,
};
pub use self::lock::{Lock, Locks};
pub use self::plugin::{
    KnownVersion, Plugin, PluginCandidate, PluginPin, PluginRelease, PluginVersions, Plugins, SkippedFile,
    Uploaded, VersionTried,
};
pub use self::recover::{Answered, Doctor, Recovered, RecoveredItem, SelfCheck};
pub use self::replay::{
    Replay, ReplayAttempt, ReplayCost, ReplayEnd, ReplayRecorded, ReplaySummary, ReplayVersion, Replayed,
};
pub use self::result::{EndedItem, FailedItem, RunResult, RunWithResult};
pub use self::schedule::{Edits, Pause, Paused, Preview, Setting, Tick, Ticks};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    pub code: String,
    pub message: String,
}

impl From<ErrorInfo> for Error {
    fn from(error: ErrorInfo) -> Error {
        Error { code: error.code, message: error.message }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jobs {
    pub jobs: Vec<Job>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub plugin: String,
    pub schedule: String,
    pub next_due_at: Option<Timestamp>,
    pub paused: Option<Pause>,
    /// The version that new attempts run on.
    pub digest: Option<String>,
    /// Why no attempt can start now, if so.
    pub blocked: Option<String>,
    pub concurrency: u32,
    pub items_per_run_max: Option<u32>,
    /// Items by state.
    pub items: Vec<Count>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Count {
    pub state: String,
    pub items: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Triggered {
    pub run_id: String,
    /// Why the run does not start yet, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runs {
    pub runs: Vec<Run>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub id: String,
    pub job: String,
    pub started_by: String,
    pub state: String,
    pub found: u32,
    pub queued: u32,
    pub waiting: u32,
    pub over_cap: u32,
    pub manual: u32,
    pub absent: u32,
    /// Queued items that had their attempt, and those of them whose attempt failed.
    pub done: u32,
    pub failed: u32,
    pub summary: String,
    pub error: Option<Error>,
    pub digest: Option<String>,
    pub created_at: Timestamp,
    pub discovered_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Items {
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    pub id: String,
    pub job: String,
    pub key: String,
    pub payload: String,
    pub state: String,
    /// `pending`, `retrying`, or the state.
    pub shown: String,
    pub attempts: u32,
    pub crashes: u32,
    pub due_at: Timestamp,
    pub run_id: Option<String>,
    pub host: Option<String>,
    pub note: Option<String>,
    pub error: Option<Error>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_batch: Option<InBatch>,
    pub resolved_at: Option<Timestamp>,
    /// The person who resolved it, if a person did.
    pub resolved_by: Option<String>,
    /// Grows with each change.
    pub version: i64,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The response to an item that was added manually.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedItem {
    /// `added`, `reopened` (it was resolved and starts again with the new payload), or `kept` (it is open or
    /// waits for a person: the new payload was dropped).
    pub outcome: String,
    /// The same for people.
    pub detail: String,
    /// Why no attempt of it starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The item as it is now.
    #[serde(flatten)]
    pub item: Item,
}

/// The response to a decision on an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DecidedItem {
    #[serde(flatten)]
    pub item: Item,
    /// Why no attempt of it starts now although it is to be retried, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemWithAttempts {
    pub item: Item,
    /// The newest first.
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub epoch: i64,
    pub number: u32,
    pub verdict: String,
    pub error: Option<Error>,
    pub note: Option<String>,
    pub log: String,
    pub host: String,
    pub digest: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// Time in the sandbox, and CPU time of the guest's own code in it, in microseconds.
    pub wall_us: i64,
    pub cpu_us: i64,
    pub memory_bytes_max: i64,
    /// Calls that reached a database or a service, and the bytes sent and received.
    pub host_calls: i64,
    pub host_bytes: i64,
}

/// The body of a decision on an item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Refused if the item changed since this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    pub id: String,
    pub job: String,
    pub kind: String,
    pub key: String,
    pub severity: String,
    pub message: String,
    /// Additional data of the job, or null.
    pub metadata: Box<RawValue>,
    /// How often it was raised before it was acknowledged.
    pub times: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
}

/// The body that adds an item manually.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddItem {
    pub key: String,
    #[serde(default)]
    pub payload: String,
}

/// The body that starts a run. The only mode is all due items.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Passed to the plugin's `discover` byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    All,
}

/// A body without fields: absent, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hosts {
    pub hosts: Vec<Host>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub id: String,
    pub name: String,
    /// The host that answered.
    pub this: bool,
    /// The id of its latest start.
    pub incarnation: Option<String>,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    pub audit: Vec<AuditEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub job: Option<String>,
    pub subject: String,
    pub detail: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outbox {
    pub events: Vec<OutboxEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxEvent {
    pub id: String,
    pub topic: String,
    pub key: String,
    pub payload: String,
    pub job: String,
    pub created_at: Timestamp,
}

/// Events that were given up because their sink did not accept them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetters {
    pub events: Vec<DeadEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadEvent {
    pub id: String,
    pub topic: String,
    pub key: String,
    pub payload: String,
    pub job: String,
    pub created_at: Timestamp,
    pub tries: u32,
    pub dead_at: Timestamp,
    pub error: String,
}

/// The dead events to send again; without ids, all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    #[serde(default)]
    pub ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Redriven {
    pub redriven: u64,
}

/// Events that a consumer has safely taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    pub ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// How many of them were not acknowledged before.
    pub taken: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<HostProblem>,
}

/// A problem that keeps a host from working as it should.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostProblem {
    /// Stable, for programs.
    pub name: String,
    /// The host works in spite of it.
    pub ready: bool,
    /// For people.
    pub text: String,
}
