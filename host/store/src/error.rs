//! What can go wrong here, named after what the caller does next.

#[derive(Debug, Clone, thiserror::Error)]
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
    /// Somebody else was faster: what was built on is not so any more. Done again, it may go through.
    #[error("{0}")]
    Raced(String),
    /// The caller sent what no database keeps.
    #[error("{0}")]
    Refused(String),
    /// The caller asked for more than one answer may hold.
    #[error("the list has more than {0} bytes: ask for fewer entries, with `limit`")]
    TooLarge(usize),
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
            sqlx::Error::Encode(why) => StoreError::Refused(why.to_string()),
            // Told as an outage, it would be hidden and tried again for ever.
            sqlx::Error::Database(ref e) if refuses_content(e.as_ref()) => {
                StoreError::Corrupt(error.to_string())
            }
            other => StoreError::Unavailable(with_remedy(&other)),
        }
    }
}

/// A constraint, a value or a statement that the database will refuse each time.
fn refuses_content(error: &dyn sqlx::error::DatabaseError) -> bool {
    let constraint = !matches!(error.kind(), sqlx::error::ErrorKind::Other);
    // SQLite's generic error (bad SQL, no such table) and too big a value;
    // Postgres' classes of bad data, broken constraints, and bad SQL or missing tables.
    constraint
        || error.code().is_some_and(|code| match code.len() {
            5 => ["22", "23", "42"].iter().any(|class| code.starts_with(class)),
            _ => code == "1" || code == "18",
        })
}

/// What a person has to do about a disk, beside what the database says of it.
pub(crate) fn with_remedy(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default();
    // Of five letters: Postgres. 4874 is SQLite's index of its log, which found no room.
    let remedy = match (code.len(), code.parse::<u32>()) {
        (5, _) if code == "53100" => FULL,
        (0..5, Ok(13 | 4_874)) => FULL,
        (0..5, Ok(code)) if code & 0xff == 10 => FAILED,
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

const FULL: &str = "make room on the disk of the database: the host goes on by itself";
const FAILED: &str = "look at the disk of the database and into the kernel's log: \
                      the host tries again by itself, and nothing is acknowledged until a write went well";
