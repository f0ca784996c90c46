//! Errors of the store, by what the caller should do next.

use crate::db::Gone;

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Wait and retry: the database cannot be reached, is busy or full.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The requested object does not exist.
    #[error("there is no {0}")]
    NotFound(String),
    /// The caller's state is out of date, or the change is not allowed now.
    #[error("{0}")]
    Conflict(String),
    /// A concurrent change invalidated the caller's state. A repeated attempt may succeed.
    #[error("{0}")]
    Raced(String),
    /// Conflicts with other transactions in each try. A later call succeeds.
    #[error(
        "the database could not complete this because of conflicts with other transactions, even after retries: {0}"
    )]
    Busy(String),
    /// The caller sent content that the databases do not store.
    #[error("{0}")]
    Refused(String),
    /// The result is larger than one answer may be.
    #[error("the list has more than {0} bytes: ask for fewer entries, with `limit`")]
    TooLarge(usize),
    /// A person has to repair the configuration or the database.
    #[error("{0}")]
    Unusable(String),
    /// A row has unexpected content: a defect, or someone edited the table.
    #[error("unexpected content: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone's help.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Busy(_))
    }
}

/// Why there is no connection, in text for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoConnection(pub String);

impl From<NoConnection> for sqlx::Error {
    fn from(error: NoConnection) -> sqlx::Error {
        sqlx::Error::Io(std::io::Error::other(error))
    }
}

/// Whether the transaction was rolled back because of a conflict with another one: a serialization failure or
/// a deadlock.
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
            // Reported as an outage, it would be hidden and retried forever.
            sqlx::Error::Database(ref e) if refuses_content(e.as_ref()) => {
                StoreError::Corrupt(error.to_string())
            }
            error if is_contention(&error) => StoreError::Busy(error.to_string()),
            // Its text is already complete.
            sqlx::Error::Io(ref e) if e.get_ref().is_some_and(|e| e.is::<Gone>()) => {
                StoreError::Unavailable(e.to_string())
            }
            other => StoreError::Unavailable(with_remedy(&other)),
        }
    }
}

/// Whether the database will always refuse this: a constraint, a value or a statement.
fn refuses_content(error: &dyn sqlx::error::DatabaseError) -> bool {
    let constraint = !matches!(error.kind(), sqlx::error::ErrorKind::Other);
    // SQLite: the generic error (bad SQL, no such table) and a value that is too big.
    // Postgres: the classes of bad data, violated constraints, and bad SQL or missing tables.
    constraint
        || error.code().is_some_and(|code| match code.len() {
            5 => code != "42P05" && ["22", "23", "42"].iter().any(|class| code.starts_with(class)),
            _ => code == "1" || code == "18",
        })
}

/// The database's error text, with the remedy for a person.
pub(crate) fn with_remedy(error: &sqlx::Error) -> String {
    if let sqlx::Error::Io(e) = error
        && let Some(NoConnection(text)) = e.get_ref().and_then(|e| e.downcast_ref())
    {
        return text.clone();
    }
    let Some(database) = error.as_database_error() else { return error.to_string() };
    let code = database.code().unwrap_or_default();
    // Five letters: Postgres. 4874 is SQLite's error for a log index that found no space.
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

const CONNECTIONS: &str = "a host uses up to 17, and 8 for each datasource: raise max_connections of Postgres (or the limit of the \
                           role, the database or the pooler), or run fewer clients";
const READ_ONLY: &str = "the server is read-only, a standby or a former primary: this host reconnects, and continues when the primary \
                         answers at the same address";
const SHARED: &str = "is there a pooler in transaction mode in between? It has to pool sessions (PgBouncer: pool_mode = session)";
const FULL: &str = "make room on the disk of the database: the host then continues automatically";
const FAILED: &str = "check the disk of the database and the kernel's log: \
                      the host tries again automatically, and nothing is acknowledged until a write succeeds";
