//! The bounds of what an attempt may hand to its host. Content that is refused stays refused however often the attempt
//! is repeated; what is beyond a limit may fit another time.

use domain::id::KEY_BYTES_MAX;
use domain::scope::ScopeError;
use domain::text::{self, escape_lines, is_hidden};

/// A name for machines: of one to [`KEY_BYTES_MAX`] bytes, without hidden characters.
pub(crate) fn check_key(what: &str, key: &str) -> Result<(), ScopeError> {
    if key.is_empty() {
        return Err(ScopeError::Limit(format!("{what} that is empty")));
    }
    check_size(what, key, KEY_BYTES_MAX)?;
    text::check_key(key).map_err(|why| ScopeError::Refused(format!("{what} is refused: {why}")))
}

/// The same, where there need not be one.
pub(crate) fn check_key_or_none(what: &str, key: &str) -> Result<(), ScopeError> {
    if key.is_empty() { Ok(()) } else { check_key(what, key) }
}

/// Whether one more of `what` may join those that the attempt has already.
pub(crate) fn check_count(what: &str, have: usize, most: usize) -> Result<(), ScopeError> {
    if have >= most {
        return Err(ScopeError::Limit(format!("more than {most} {what} in an attempt")));
    }
    Ok(())
}

/// Data for programs, which is kept byte for byte: Postgres cannot keep a zero byte.
pub(crate) fn check_data(what: &str, data: &str, bytes_max: usize) -> Result<(), ScopeError> {
    check_size(what, data, bytes_max)?;
    if data.contains('\0') {
        return Err(ScopeError::Refused(format!("{what} with a zero byte")));
    }
    Ok(())
}

/// A text for people, as it is kept: hidden characters are made visible.
pub(crate) fn text(what: &str, text: String, bytes_max: usize) -> Result<String, ScopeError> {
    check_data(what, &text, bytes_max)?;
    if !text.contains(is_hidden) {
        return Ok(text);
    }
    Ok(domain::limits::cut(&escape_lines(&text), bytes_max))
}

fn check_size(what: &str, text: &str, bytes_max: usize) -> Result<(), ScopeError> {
    if text.len() > bytes_max {
        return Err(ScopeError::Limit(format!("{what} of {} bytes, at most {bytes_max}", text.len())));
    }
    Ok(())
}
