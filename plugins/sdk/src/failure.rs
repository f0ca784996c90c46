use crate::{Error, Failure, Throttle};

impl Failure {
    /// Retry after the backoff. `code` is short and stable (`mpc-unreachable`), `message` is for people.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Transient(error(code, message))
    }

    /// No automatic retry: the item waits for a person.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Permanent(error(code, message))
    }

    /// Retry after this many milliseconds. Does not count as an attempt.
    pub fn throttled(retry_after_ms: u64, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Throttled(Throttle { retry_after: retry_after_ms, error: error(code, message) })
    }
}

fn error(code: impl Into<String>, message: impl Into<String>) -> Error {
    Error { code: code.into(), message: message.into() }
}
