//! The meaning of a stored key generation status for a user whose wallet is incomplete (rule W6).

/// A generation without progress for this long has timed out.
pub const TIMED_OUT_AFTER_MS: i64 = 60_000;
/// An older status is treated as missing.
pub const STATUS_KEPT_MS: i64 = 24 * 3_600_000;

/// Every result of `standing`, in display order.
pub const STANDINGS: [&str; 8] =
    ["no status", "failed", "inconsistent", "unreadable", "timed out", "pending", "generating", "deriving"];

/// `status` is the stored text, or `None` without a row.
pub fn standing(status: Option<&str>, updated_at_ms: Option<i64>, now_ms: i64) -> &'static str {
    let Some(status) = status else {
        return "no status";
    };
    // Without a time it is unknown whether the status is valid, and when to stop waiting.
    let Some(updated_at_ms) = updated_at_ms else {
        return "unreadable";
    };
    let age_ms = now_ms.saturating_sub(updated_at_ms);
    if age_ms > STATUS_KEPT_MS {
        return "no status";
    }
    let waiting = match status {
        "failed" => return "failed",
        "completed" => return "inconsistent",
        "pending" => "pending",
        "generating" => "generating",
        "deriving" => "deriving",
        _ => return "unreadable",
    };
    if age_ms > TIMED_OUT_AFTER_MS { "timed out" } else { waiting }
}
