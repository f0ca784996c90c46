//! The report of a replay, as the API returns it: past attempts, repeated on the active version and on another one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replay {
    pub plugin: String,
    pub job: String,
    /// The active version.
    pub now: ReplayVersion,
    /// The submitted version.
    pub new: ReplayVersion,
    /// The most recently ended first.
    pub attempts: Vec<ReplayAttempt>,
    pub summary: ReplaySummary,
    /// The time limit was reached before all attempts were repeated.
    pub cut_short: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayVersion {
    pub digest: String,
    pub version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayAttempt {
    pub item: String,
    pub number: u32,
    pub ended_at: Timestamp,
    pub recorded: ReplayRecorded,
    pub now: Replayed,
    pub new: Replayed,
    pub same_outcome: bool,
    /// Kinds of effects in which now and new differ.
    pub effects_differ: Vec<String>,
}

/// The outcome of the past attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRecorded {
    #[serde(flatten)]
    pub end: ReplayEnd,
    pub digest: Option<String>,
    pub cost: ReplayCost,
}

/// The outcome on one version today.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    #[serde(flatten)]
    pub end: ReplayEnd,
    /// Objects with a `kind`. A failed attempt has only `http` and `lock`, because its
    /// other effects are dropped.
    pub effects: Vec<Value>,
    /// Effects beyond the listed ones; they were compared, too.
    pub unlisted: usize,
    pub cost: ReplayCost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayEnd {
    pub outcome: String,
    pub code: Option<String>,
    pub message: Option<String>,
    pub note: Option<String>,
    /// How long the item would be delayed, if it would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_off_ms: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayCost {
    pub wall_us: u64,
    pub cpu_us: u64,
    pub memory_bytes_max: u64,
    pub host_calls: u64,
    pub host_bytes: u64,
}

/// Now compared with new, over all attempts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplaySummary {
    pub attempts: usize,
    pub same_outcomes: usize,
    pub different_outcomes: usize,
    pub different_effects: usize,
    /// CPU time of new divided by that of now: the mean of the attempts' ratios; `None` without attempts.
    pub cpu_ratio: Option<f64>,
}

impl ReplaySummary {
    pub fn differs(&self) -> bool {
        self.different_outcomes > 0 || self.different_effects > 0
    }
}
