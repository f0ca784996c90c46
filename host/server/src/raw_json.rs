//! JSON that is passed through: its bytes are unchanged, so that no number, key or space changes.

use serde_json::value::{RawValue, to_raw_value};

/// Returns a JSON document byte for byte, and any other text as a JSON string.
pub fn raw_or_text(text: &str) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => raw.to_owned(),
        Err(_) => to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}
