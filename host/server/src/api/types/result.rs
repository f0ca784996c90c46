//! Response types of the result of a run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Run};

/// A run with its progress, which is its result once no item is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunWithResult {
    #[serde(flatten)]
    pub run: Run,
    pub result: RunResult,
    /// Items that failed permanently, at most 1,000.
    pub failures: Vec<FailedItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// Queued items of the run, and those of them that had their attempt or need none any more: the same as
    /// `queued` and `done` of the run. The two are equal in a finished run.
    pub total: u32,
    pub current: u32,
    /// Resolved items, over all attempts so far.
    pub success: u32,
    /// Items that failed permanently. The remaining items are retried, or were decided without an attempt.
    pub failed: u32,
    /// The item that ended last.
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
