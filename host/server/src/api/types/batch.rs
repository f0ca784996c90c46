//! Request and response types of batches.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Item;

/// An item's reference to its batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InBatch {
    pub id: String,
    pub index: u32,
    pub operation: String,
    pub created_by: String,
    pub max_attempts: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batches {
    pub batches: Vec<Batch>,
}

/// A batch, counted by the states of its items.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batch {
    pub id: String,
    pub job: String,
    pub created_by: String,
    pub created_at: Timestamp,
    pub total: u32,
    pub pending: u32,
    pub retrying: u32,
    pub running: u32,
    pub resolved: u32,
    pub manual_required: u32,
    pub abandoned: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchWithItems {
    pub batch: Batch,
    /// In the order of their index.
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Processed {
    /// Items that waited and are due now.
    pub made_due: u64,
    /// Why no attempt of them starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    pub batch: Batch,
}

/// The response to a submitted batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedBatch {
    #[serde(flatten)]
    pub batch: Batch,
    /// Why no attempt of its items starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// The body that submits a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBatch {
    /// Generated if it is absent. A second batch with the same id is refused, so that no work is done twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub job: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    pub items: Vec<AddBatchItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBatchItem {
    pub operation: String,
    /// Kept byte for byte.
    pub payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}
