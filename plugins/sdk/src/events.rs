//! Events are published together with the attempt's outcome, or never.

use serde::Serialize;

use crate::Failure;
use crate::bindings::tidemill::job::events::{self, Error};

/// Publishes an event and returns its id. Events of one key are delivered in order.
pub fn publish(topic: &str, key: &str, payload: &impl Serialize) -> Result<String, Failure> {
    let payload = serde_json::to_string(payload).map_err(|error| {
        Failure::permanent(
            "event-unwritable",
            format!("an event for topic {topic:?} cannot be written: {error}"),
        )
    })?;
    events::publish(topic, key, &payload).map_err(|error| match error {
        Error::Denied(reason) => Failure::permanent("event-denied", format!("topic {topic:?}: {reason}")),
        Error::Limit(reason) => Failure::transient("event-limit", format!("topic {topic:?}: {reason}")),
        Error::Other(reason) => Failure::transient("event-failed", format!("topic {topic:?}: {reason}")),
    })
}
