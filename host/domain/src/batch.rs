//! Items submitted together: operations that failed in another system and are repeated here.

use crate::id::{JobName, NAME_BYTES_MAX};
use crate::text::check_name;

/// Most items in one batch.
pub const BATCH_ITEMS_MAX: usize = 10_000;

/// The batch that an item belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InBatch {
    pub batch: String,
    /// Position in the batch, from 0.
    pub index: u32,
    /// Selects the plugin's operation for the item.
    pub operation: String,
    pub created_by: String,
    /// Overrides the job's limit.
    pub max_attempts: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBatch {
    pub batch: String,
    pub job: JobName,
    pub created_by: String,
    pub items: Vec<NewBatchItem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBatchItem {
    pub operation: String,
    /// A JSON document.
    pub payload: String,
    /// Why the operation failed in the other system.
    pub reason: String,
    pub max_attempts: Option<u32>,
}

impl NewBatch {
    /// The reason to refuse the batch, if there is one.
    pub fn refused(&self) -> Option<String> {
        if !is_word(&self.batch) {
            return Some(format!("the batch id {:?} is not one: {WORD}", self.batch));
        }
        if let Err(why) = check_name(&self.created_by, NAME_BYTES_MAX) {
            return Some(format!("created_by: {why}"));
        }
        if self.items.is_empty() || self.items.len() > BATCH_ITEMS_MAX {
            return Some(format!(
                "a batch has 1 to {BATCH_ITEMS_MAX} items, this one has {}",
                self.items.len()
            ));
        }
        self.items.iter().enumerate().find_map(|(index, item)| {
            let why = item.refused()?;
            Some(format!("items[{index}]: {why}"))
        })
    }
}

impl NewBatchItem {
    fn refused(&self) -> Option<String> {
        if !is_word(&self.operation) {
            return Some(format!("the operation {:?} is not one: {WORD}", self.operation));
        }
        if self.max_attempts == Some(0) {
            return Some("max_attempts: at least 1".to_owned());
        }
        let zero = self.payload.contains('\0') || self.reason.contains('\0');
        zero.then(|| "a zero byte cannot be stored".to_owned())
    }
}

const WORD: &str = "use 1 to 64 letters, digits, -, _ and .";

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(fits)
}
