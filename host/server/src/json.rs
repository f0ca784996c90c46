//! JSON that passes through: its bytes stay as they came, so that no number, key or space of it changes.

use serde_json::value::{RawValue, to_raw_value};

/// A document byte for byte; what is no JSON becomes a JSON text.
pub fn raw_or_text(text: &str) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => raw.to_owned(),
        Err(_) => to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}
