//! Items for this job or another one, added together with the attempt's outcome, or never.

use crate::Failure;
use crate::bindings::tidemill::job::items::{self, Error};

/// Adds an item as if a discovery of `job` had found it. An item that is open, or waits for a person, is not
/// changed.
pub fn enqueue(job: &str, key: &str, payload: &str) -> Result<(), Failure> {
    items::enqueue(job, key, payload).map_err(|error| match error {
        Error::Denied(reason) => {
            Failure::permanent("item-denied", format!("item {key:?} of {job:?}: {reason}"))
        }
        Error::Limit(reason) => {
            Failure::transient("item-limit", format!("item {key:?} of {job:?}: {reason}"))
        }
        Error::Other(reason) => {
            Failure::transient("item-failed", format!("item {key:?} of {job:?}: {reason}"))
        }
    })
}
