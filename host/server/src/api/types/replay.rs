//! A replay over the wire: attempts that were, made again on the version that runs and on another one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replay {
    pub plugin: String,
    pub job: String,
    /// The version that runs.
    pub now: ReplayVersion,
    /// The version that was handed in.
    pub new: ReplayVersion,
    /// Those that ended last first.
    pub attempts: Vec<ReplayAttempt>,
    pub summary: ReplaySummary,
    /// The time for a replay was over before all attempts were made again.
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

/// What became of the attempt when it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRecorded {
    #[serde(flatten)]
    pub end: ReplayEnd,
    pub digest: Option<String>,
    pub cost: ReplayCost,
}

/// What would become of it today, by one version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replayed {
    #[serde(flatten)]
    pub end: ReplayEnd,
    /// Objects with a `kind`. Of an attempt that failed only `http` and `lock`: all else is dropped with it.
    pub effects: Vec<Value>,
    /// Effects beyond those that are listed; they were compared too.
    pub unlisted: usize,
    pub cost: ReplayCost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayEnd {
    pub outcome: String,
    pub code: Option<String>,
    pub message: Option<String>,
    pub note: Option<String>,
    /// How long the item would be put off, if it is.
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

/// Now against new, over all attempts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplaySummary {
    pub attempts: usize,
    pub same_outcomes: usize,
    pub different_outcomes: usize,
    pub different_effects: usize,
    /// CPU time of new by that of now: the mean of the attempts' ratios; nothing without attempts.
    pub cpu_ratio: Option<f64>,
}

impl ReplaySummary {
    pub fn differs(&self) -> bool {
        self.different_outcomes > 0 || self.different_effects > 0
    }
}
