//! Decides what to do for a user, from the status of the last key generation. Pure: no clock, no database.

/// A complete wallet has addresses on this many chains.
pub const CHAINS: i64 = 3;

/// A row of `keygen_status`, as stored. Neither field can be trusted.
pub struct Status {
    pub word: Option<String>,
    pub updated_at_ms: Option<i64>,
    /// The attempt that wrote the row.
    pub request_key: Option<String>,
}

/// How long a status is valid.
pub struct Limits {
    pub timeout_ms: i64,
    pub retention_ms: i64,
}

#[derive(Debug, PartialEq)]
pub enum Decision {
    /// The wallet is complete.
    Complete,
    /// A generation is in progress: check again at this instant.
    Wait { until_ms: i64 },
    /// Request key generation, for this reason.
    Retry(&'static str),
}

/// The reason that is logged as a warning: the service reports completion, but the wallet is incomplete.
pub const INCONSISTENT: &str = "completed, but the wallet is incomplete (inconsistent)";

/// `attempt_key` is the idempotency key of this attempt.
pub fn decide(
    addresses: i64,
    status: Option<Status>,
    attempt_key: &str,
    limits: &Limits,
    now_ms: i64,
) -> Decision {
    if addresses >= CHAINS {
        return Decision::Complete;
    }
    let Some(status) = status else {
        return Decision::Retry("no status");
    };
    let (Some(word), Some(updated_at_ms)) = (status.word.as_deref(), status.updated_at_ms) else {
        return Decision::Retry("unreadable status");
    };
    // The status is committed just before the event. A pending status of this attempt means that the host
    // crashed between the two. The same session is requested again, so that both exist.
    if word == "pending" && status.request_key.as_deref() == Some(attempt_key) {
        return Decision::Retry("the request of this attempt was cut off");
    }
    let age_ms = now_ms.saturating_sub(updated_at_ms);
    if age_ms > limits.retention_ms {
        return Decision::Retry("no status");
    }
    match word {
        "failed" => Decision::Retry("failed"),
        "completed" => Decision::Retry(INCONSISTENT),
        // A time in the future, beyond the difference of clocks, would be waited for without end.
        "pending" | "generating" | "deriving" if age_ms < -limits.timeout_ms => {
            Decision::Retry("unreadable status")
        }
        "pending" | "generating" | "deriving" if age_ms < limits.timeout_ms => {
            Decision::Wait { until_ms: updated_at_ms + limits.timeout_ms }
        }
        "pending" | "generating" | "deriving" => Decision::Retry("timed out"),
        _ => Decision::Retry("unreadable status"),
    }
}
