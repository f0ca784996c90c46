//! Notes are added to the attempt's log together with its outcome, or never.

use crate::Failure;
use crate::bindings::tidemill::job::notes::{self, Error};

/// Adds a line for people.
pub fn add(text: &str) -> Result<(), Failure> {
    notes::add(text).map_err(|error| match error {
        Error::Denied(reason) => Failure::permanent("note-denied", reason),
        Error::Limit(reason) => Failure::transient("note-limit", reason),
        Error::Other(reason) => Failure::transient("note-failed", reason),
    })
}
