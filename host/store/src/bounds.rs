//! The bounds of what an attempt may hand to its host.

use domain::id::KEY_BYTES_MAX;
use domain::scope::ScopeError;

pub(crate) fn check_key(what: &str, key: &str) -> Result<(), ScopeError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(ScopeError::Limit(format!("{what} of {} bytes, at most {KEY_BYTES_MAX}", key.len())));
    }
    Ok(())
}

/// Whether one more of `what` may join those that the attempt has already.
pub(crate) fn check_count(what: &str, have: usize, most: usize) -> Result<(), ScopeError> {
    if have >= most {
        return Err(ScopeError::Limit(format!("more than {most} {what} in an attempt")));
    }
    Ok(())
}

/// A text that goes into a row of its own: bounded, and without what Postgres does not keep.
pub(crate) fn check_text(what: &str, text: &str, bytes_max: usize) -> Result<(), ScopeError> {
    if text.len() > bytes_max {
        return Err(ScopeError::Limit(format!("{what} of {} bytes, at most {bytes_max}", text.len())));
    }
    if text.contains('\0') {
        return Err(ScopeError::Limit(format!("{what} with a zero byte")));
    }
    Ok(())
}

/// A word for machines: neither empty nor long.
pub(crate) fn check_word(what: &str, word: &str) -> Result<(), ScopeError> {
    if word.is_empty() {
        return Err(ScopeError::Limit(format!("{what} that is empty")));
    }
    check_text(what, word, KEY_BYTES_MAX)
}
