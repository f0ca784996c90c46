//! What can go wrong here, named after what the caller does next.

use crate::db::Gone;

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
    /// Transactions of others stood in the way each time that it was tried. Done again later, it goes through.
    #[error(
        "the database could not do this beside other transactions, also not when it was tried again: {0}"
    )]
    Busy(String),
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

impl StoreError {
    /// Whether the same call may go through later without anybody's help.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Busy(_))
    }
}

/// Why there is no connection, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoConnection(pub String);

impl From<NoConnection> for sqlx::Error {
    fn from(error: NoConnection) -> sqlx::Error {
        sqlx::Error::Io(std::io::Error::other(error))
    }
}

/// Whether another transaction stood in the way of this one, which was undone: a serialization failure or a deadlock.
pub(crate) fn is_contention(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| code == "40001" || code == "40P01")
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
            error if is_contention(&error) => StoreError::Busy(error.to_string()),
            // Says all by itself.
            sqlx::Error::Io(ref e) if e.get_ref().is_some_and(|e| e.is::<Gone>()) => {
                StoreError::Unavailable(e.to_string())
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
            5 => code != "42P05" && ["22", "23", "42"].iter().any(|class| code.starts_with(class)),
            _ => code == "1" || code == "18",
        })
}

/// What a database says, and what a person has to do about it.
pub(crate) fn with_remedy(error: &sqlx::Error) -> String {
    if let sqlx::Error::Io(e) = error
        && let Some(NoConnection(text)) = e.get_ref().and_then(|e| e.downcast_ref())
    {
        return text.clone();
    }
    let Some(database) = error.as_database_error() else { return error.to_string() };
    let code = database.code().unwrap_or_default();
    // Of five letters: Postgres. 4874 is SQLite's index of its log, which found no room.
    let remedy = match (code.len(), code.parse::<u32>()) {
        (5, _) if code == "53300" => {
            return format!("too many connections: {}; {CONNECTIONS}", database.message());
        }
        (5, _) if code == "25006" => READ_ONLY,
        (5, _) if code == "26000" || code == "42P05" => SHARED,
        (5, _) if code == "53100" => FULL,
        (0..5, Ok(13 | 4_874)) => FULL,
        (0..5, Ok(code)) if code & 0xff == 10 => FAILED,
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

const CONNECTIONS: &str = "a host uses up to 16, and 8 for each datasource: raise max_connections of Postgres (or the limit of the \
                           role, the database or the pooler), or run fewer clients";
const READ_ONLY: &str = "the server is read-only, a standby or a former primary: this host connects again, and goes on when the primary \
                         answers at the same address";
const SHARED: &str =
    "is a pooler in transaction mode between? it has to pool sessions (PgBouncer: pool_mode = session)";
const FULL: &str = "make room on the disk of the database: the host goes on by itself";
const FAILED: &str = "look at the disk of the database and into the kernel's log: \
                      the host tries again by itself, and nothing is acknowledged until a write went well";
