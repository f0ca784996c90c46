//! Named locks across all jobs, all hosts and the API. Each acquisition gets a fencing token that is higher
//! than all earlier ones.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

use crate::text;

/// Longest time for which an API client may take or renew a lock.
pub const LOCK_TIME_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Longest name of a lock, in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 128;
const ANY: char = '*';

/// The error says why the text cannot name a lock.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.contains(ANY) {
        return Err(format!("{ANY:?} is not allowed in it"));
    }
    text::check_name(name, LOCK_NAME_BYTES_MAX).map_err(|why| why.to_string())
}

/// Locks that a job may take: one name like `ledger`, or all names with a prefix, like `wallet:*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockPattern {
    start: String,
    open: bool,
}

impl LockPattern {
    pub fn covers(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.start) } else { name == self.start }
    }
}

impl FromStr for LockPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<LockPattern, String> {
        let (start, open) = text.strip_suffix(ANY).map_or((text, false), |start| (start, true));
        check_name(start)?;
        Ok(LockPattern { start: start.to_owned(), open })
    }
}

impl fmt::Display for LockPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.start, if self.open { "*" } else { "" })
    }
}
