//! Why an attempt failed, and the codes that the host itself gives.

use jiff::SignedDuration;

/// The failure that a guest returned, or that the host found (trap, timeout, limit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Transient(ErrorInfo),
    Throttled {
        retry_after: SignedDuration,
        error: ErrorInfo,
    },
    Permanent(ErrorInfo),
    /// The host could not finish the attempt, for a reason that is neither the guest's nor a service's.
    /// Retried after this delay. Not counted, and not limited in number.
    Postponed {
        retry_after: SignedDuration,
        error: ErrorInfo,
    },
    /// The host is shutting down or lost its lease. Not the guest's fault, not counted.
    Interrupted,
    /// The host, its store or its machine failed. Not the guest's fault, not counted. See [`HOST_RESOURCES`],
    /// [`HOST_STORE`] and [`HOST_PANIC`].
    Host(ErrorInfo),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorInfo {
    /// Short and stable, for machines.
    pub code: String,
    pub message: String,
}

/// The code of an attempt that was snoozed until an instant before its start.
pub const SNOOZED_TO_PAST: &str = "snoozed-to-past";
/// The code of an item that was postponed too often in a row.
pub const DEFERRALS_EXHAUSTED: &str = "deferrals-exhausted";
/// The code of a commit on a business database that failed or whose result is unknown.
pub const SQL_COMMIT: &str = "sql-commit";

/// The code of a failure because the host lacks memory, address space, open files, threads or disk.
pub const HOST_RESOURCES: &str = "host-resources";
/// The code of a failure because the host's store did not answer a call of the guest.
pub const HOST_STORE: &str = "host-store";
/// The code of a failure because of a defect in the host.
pub const HOST_PANIC: &str = "host-panic";

impl ErrorInfo {
    pub fn new(code: &str, message: impl Into<String>) -> ErrorInfo {
        ErrorInfo { code: code.to_owned(), message: message.into() }
    }
}

impl Failure {
    pub fn transient(code: &str, message: impl Into<String>) -> Failure {
        Failure::Transient(ErrorInfo::new(code, message))
    }

    pub fn host(code: &str, message: impl Into<String>) -> Failure {
        Failure::Host(ErrorInfo::new(code, message))
    }

    pub fn error(&self) -> Option<&ErrorInfo> {
        match self {
            Failure::Transient(error)
            | Failure::Permanent(error)
            | Failure::Throttled { error, .. }
            | Failure::Postponed { error, .. }
            | Failure::Host(error) => Some(error),
            Failure::Interrupted => None,
        }
    }
}
