//! What a stored key generation status means for a user whose wallet is incomplete (rule W6).

/// A generation that has not moved for this long has timed out.
pub const TIMED_OUT_AFTER_MS: i64 = 60_000;
/// An older status counts as none.
pub const STATUS_KEPT_MS: i64 = 24 * 3_600_000;

/// Every word that `standing` can say, in the order in which people want to read them.
pub const STANDINGS: [&str; 8] =
    ["no status", "failed", "inconsistent", "unreadable", "timed out", "pending", "generating", "deriving"];

/// `status` is the stored text, `None` where there is no row.
pub fn standing(status: Option<&str>, updated_at_ms: Option<i64>, now_ms: i64) -> &'static str {
    let Some(status) = status else {
        return "no status";
    };
    // Without a time nobody can say what the status is worth, nor when to stop waiting.
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
