//! Alerts are raised together with the attempt's outcome, or never.

use serde::Serialize;

use crate::Failure;
pub use crate::bindings::tidemill::job::alerts::Severity;
use crate::bindings::tidemill::job::alerts::{self, Error};

/// Raises an alert. If the same kind and key is raised again before a person has acknowledged it, the open
/// alert is counted and takes the newer message.
pub fn raise(
    kind: &str,
    key: &str,
    severity: Severity,
    message: &str,
    metadata: &impl Serialize,
) -> Result<(), Failure> {
    let metadata = serde_json::to_string(metadata).map_err(|error| {
        Failure::permanent(
            "alert-unwritable",
            format!("the metadata of alert {kind:?} cannot be written: {error}"),
        )
    })?;
    let alert = alerts::Alert {
        kind: kind.to_owned(),
        key: key.to_owned(),
        severity,
        message: message.to_owned(),
        metadata,
    };
    alerts::raise(&alert).map_err(|error| match error {
        Error::Denied(reason) => Failure::permanent("alert-denied", format!("alert {kind:?}: {reason}")),
        Error::Limit(reason) => Failure::transient("alert-limit", format!("alert {kind:?}: {reason}")),
        Error::Other(reason) => Failure::transient("alert-failed", format!("alert {kind:?}: {reason}")),
    })
}
