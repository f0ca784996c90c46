use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Failure, Found, Item, Outcome, Page, PageRequest};

impl Item {
    /// The payload as a type. A mismatch would repeat at each attempt, so it is a permanent failure.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.payload).map_err(|error| {
            Failure::permanent(
                "bad-payload",
                format!("the payload of item {:?} cannot be read: {error}", self.key),
            )
        })
    }

    /// The host's facts about this attempt (`run_id`, `epoch`, `last_error` …); null if there are none.
    pub fn context(&self) -> Value {
        serde_json::from_str(&self.context).unwrap_or(Value::Null)
    }
}

impl PageRequest {
    /// The host's facts about the run: `run_id`, `trigger`, `scheduled_at_ms`, `params` …; null if there are none.
    pub fn context(&self) -> Value {
        serde_json::from_str(&self.context).unwrap_or(Value::Null)
    }
}

impl Found {
    /// An item without a payload.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: key.into(), payload: String::new() }
    }

    /// An item with a payload for `process`.
    pub fn with_payload(key: impl Into<String>, payload: &impl Serialize) -> Result<Self, Failure> {
        let key = key.into();
        let payload = serde_json::to_string(payload).map_err(|error| {
            Failure::permanent(
                "bad-payload",
                format!("the payload of item {key:?} cannot be written: {error}"),
            )
        })?;
        Ok(Self { key, payload })
    }
}

impl Page {
    /// The last page, or the only one.
    pub fn complete(items: Vec<Found>) -> Self {
        Self { items, next: None }
    }
}

impl Outcome {
    /// Done, with a note for people.
    pub fn resolved(note: impl Into<String>) -> Self {
        Self::Resolved(Some(note.into()))
    }

    /// Started in another system: check again after the backoff.
    pub fn awaiting(note: impl Into<String>) -> Self {
        Self::Awaiting(Some(note.into()))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Failure, Item};

    #[test]
    fn a_bad_payload_is_permanent_and_names_the_item() {
        let item = Item {
            key: "u-7".into(),
            payload: "{".into(),
            attempt: 1,
            idempotency_key: String::new(),
            context: String::new(),
        };
        let Err(Failure::Permanent(error)) = item.payload::<u32>() else { panic!("not a permanent failure") };
        assert_eq!(error.code, "bad-payload");
        assert!(error.message.contains("u-7"), "{}", error.message);
    }
}
