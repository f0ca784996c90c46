//! What can go wrong here, named after what the caller does next.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Wait and try again: the database cannot be reached, is busy or full.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The caller asked for something that is not there.
    #[error("there is no {0}")]
    NotFound(String),
    /// The caller's picture is out of date, or the change is not allowed now.
    #[error("{0}")]
    Conflict(String),
    /// A person has to repair the configuration or the database.
    #[error("{0}")]
    Unusable(String),
    /// A row does not say what this version expects: a defect, or someone edited the table.
    #[error("unexpected content: {0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::TypeNotFound { .. } => StoreError::Corrupt(error.to_string()),
            // A constraint or a syntax error of ours: telling it as unavailability would hide it.
            sqlx::Error::Database(ref e) if e.is_unique_violation() || e.is_check_violation() => {
                StoreError::Corrupt(error.to_string())
            }
            other => StoreError::Unavailable(other.to_string()),
        }
    }
}
