//! What became of a run, over the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Run};

/// A run with its progress, which is its result once nothing is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunWithResult {
    #[serde(flatten)]
    pub run: Run,
    pub result: RunResult,
    /// Items that failed for good, at most 1,000.
    pub failures: Vec<FailedItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// Items that the run queued, and those of them that had their attempt or need none any more: the same as `queued` and
    /// `done` of the run. A finished run has both alike.
    pub total: u32,
    pub current: u32,
    /// Resolved, over all attempts so far.
    pub success: u32,
    /// Failed for good; what is neither is tried again, or was decided without an attempt.
    pub failed: u32,
    /// The item that was brought to its end last.
    pub last: Option<EndedItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndedItem {
    pub key: String,
    pub success: bool,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedItem {
    pub key: String,
    pub payload: String,
    pub attempts: u32,
    pub error: Error,
}
