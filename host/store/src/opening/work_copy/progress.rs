//! What an upgrade reports while it runs.

use std::fmt;

/// One report, as a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Rows of a table copied so far, of how many, and the rows a second of this process.
    Copies { table: &'static str, rows: i64, of: i64, per_second: i64 },
    /// A step of one transaction has begun.
    Makes(&'static str),
    /// Another host is upgrading the database. The rows that it has copied, of how many.
    Waits(Option<(i64, i64)>),
}

/// Takes the reports of an upgrade.
pub type Report<'a> = &'a (dyn Fn(&Progress) + Send + Sync);

impl Progress {
    /// A [`Report`] that writes to the log.
    pub(crate) fn log(&self) {
        tracing::info!(progress = %self, "the store is being upgraded");
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Copies { table, rows, of, per_second } => {
                write!(f, "{table}: {}% ({rows} of {of}), {per_second} rows/s", percent(*rows, *of))
            }
            Progress::Makes(name) => write!(f, "making: {name}"),
            Progress::Waits(None) => f.write_str("another host upgrades the database; this one waits"),
            Progress::Waits(Some((rows, of))) => {
                write!(
                    f,
                    "another host upgrades the database ({}% copied); this one waits",
                    percent(*rows, *of)
                )
            }
        }
    }
}

/// Rows can be more than the count at the beginning, if someone adds some to the old table.
fn percent(rows: i64, of: i64) -> i64 {
    if of <= 0 { 100 } else { (rows.saturating_mul(100) / of).min(100) }
}
