//! Limits of the data that an attempt may pass to the host. `Refused` content is refused at every retry;
//! content beyond a `Limit` may fit another time.

use crate::id::KEY_BYTES_MAX;
use crate::limits::cut;
use crate::scope_error::ScopeError;
use crate::text::{self, escape, escape_lines, is_hidden};

/// How much of a refused key an error shows.
const SHOWN_BYTES_MAX: usize = 128;

/// Checks a name for machines: one to [`KEY_BYTES_MAX`] bytes, without hidden characters.
pub fn check_key(what: &str, key: &str) -> Result<(), ScopeError> {
    if key.is_empty() {
        return Err(ScopeError::Limit(format!("{what} that is empty")));
    }
    check_size(what, key, KEY_BYTES_MAX)?;
    text::check_key(key).map_err(|why| {
        let shown = cut(&escape(key), SHOWN_BYTES_MAX);
        ScopeError::Refused(format!("{what} is refused: {why}, in \"{shown}\""))
    })
}

/// Like [`check_key`], but the name may be empty.
pub fn check_key_or_none(what: &str, key: &str) -> Result<(), ScopeError> {
    if key.is_empty() { Ok(()) } else { check_key(what, key) }
}

/// Checks whether the attempt may add one more of `what`.
pub fn check_count(what: &str, have: usize, most: usize) -> Result<(), ScopeError> {
    if have >= most {
        return Err(ScopeError::Limit(format!("more than {most} {what} in an attempt")));
    }
    Ok(())
}

/// Checks data for programs, which is stored unchanged. Postgres cannot store a zero byte.
pub fn check_data(what: &str, data: &str, bytes_max: usize) -> Result<(), ScopeError> {
    check_size(what, data, bytes_max)?;
    if data.contains('\0') {
        return Err(ScopeError::Refused(format!("{what} with a zero byte")));
    }
    Ok(())
}

/// Checks a text for people and makes its hidden characters visible.
pub fn check_text(what: &str, text: &mut String, bytes_max: usize) -> Result<(), ScopeError> {
    check_data(what, text, bytes_max)?;
    if text.contains(is_hidden) {
        *text = cut(&escape_lines(text), bytes_max);
    }
    Ok(())
}

fn check_size(what: &str, text: &str, bytes_max: usize) -> Result<(), ScopeError> {
    if text.len() > bytes_max {
        return Err(ScopeError::Limit(format!("{what} of {} bytes, at most {bytes_max}", text.len())));
    }
    Ok(())
}
