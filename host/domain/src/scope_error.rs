//! The error of a request that an attempt makes to its scope.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The job's grants do not allow it.
    #[error("denied: {0}")]
    Denied(String),
    #[error("limit: {0}")]
    Limit(String),
    /// A name or a text that this host never accepts. Repeating the call fails again.
    #[error("refused: {0}")]
    Refused(String),
    /// The database refused the statement.
    #[error("database: {0}")]
    Database(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The host's own store did not answer. If the attempt fails after that, the host is to blame.
    #[error("unavailable: {0}")]
    Store(String),
}
