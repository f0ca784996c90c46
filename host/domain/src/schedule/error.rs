//! Why a schedule is refused.

use super::zone::UnknownZone;

/// Most instants that a schedule may list.
pub const INSTANTS_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("cron text {text:?} is not valid: {reason} (use 5 or 6 fields like \"*/5 * * * *\", or @daily)")]
    BadCron { text: String, reason: String },
    #[error("cron text {0:?} never fires")]
    NeverFires(String),
    #[error(transparent)]
    UnknownZone(#[from] UnknownZone),
    #[error("an interval of {0} is below the least of 1 s")]
    TooOften(String),
    #[error("it names no instant, or more than {INSTANTS_MAX}")]
    BadInstants,
}
