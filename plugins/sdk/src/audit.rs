//! Audit records are written together with the attempt's outcome, or never.

use crate::Failure;
use crate::bindings::tidemill::job::audit::{self, Error};

/// Writes a record: `action` is a stable word, `subject` names the affected object, `detail` is for people.
/// The host adds the time and the job.
pub fn record(action: &str, subject: &str, detail: &str) -> Result<(), Failure> {
    audit::record_action(action, subject, detail).map_err(|error| match error {
        Error::Denied(reason) => Failure::permanent("audit-denied", format!("action {action:?}: {reason}")),
        Error::Limit(reason) => Failure::transient("audit-limit", format!("action {action:?}: {reason}")),
        Error::Other(reason) => Failure::transient("audit-failed", format!("action {action:?}: {reason}")),
    })
}
