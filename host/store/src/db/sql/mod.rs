//! A statement has one text for both databases, or one for each. `sqlite.rs` and `postgres.rs` hold the texts
//! that differ. `resolve` replaces the named parameters of a text.

pub(crate) mod postgres;
pub(crate) mod resolve;
pub(crate) mod sqlite;

use resolve::{Constants, Dialect, Resolved};

use crate::db::arg::{Args, constants};

/// Changes each statement on SQLite, once the simulator has set it.
#[cfg(feature = "simulation")]
pub static REWRITE: std::sync::OnceLock<fn(&'static str) -> &'static str> = std::sync::OnceLock::new();

/// A statement, with its text for each database.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    pub(crate) const fn same(text: &'static str) -> Sql {
        Sql { sqlite: text, postgres: text }
    }

    pub(crate) const fn differs(sqlite: &'static str, postgres: &'static str) -> Sql {
        Sql { sqlite, postgres }
    }

    pub(crate) fn sqlite(self) -> &'static Resolved {
        #[cfg(feature = "simulation")]
        let text = REWRITE.get().map_or(self.sqlite, |rewrite| rewrite(self.sqlite));
        #[cfg(not(feature = "simulation"))]
        let text = self.sqlite;
        resolve::cached(text, Dialect::Sqlite)
    }

    pub(crate) fn postgres(self) -> &'static Resolved {
        resolve::cached(self.postgres, Dialect::Postgres)
    }

    pub(crate) fn postgres_with(self, constants: Constants) -> &'static Resolved {
        resolve::cached_for(self.postgres, constants)
    }

    /// The text for these arguments.
    pub(crate) fn postgres_for(self, args: Args<'_>) -> &'static Resolved {
        match constants(args) {
            Some(constants) => self.postgres_with(constants),
            None => self.postgres(),
        }
    }
}

/// A statement that locks its rows on Postgres. On SQLite, the transaction holds the only write lock.
macro_rules! locking {
    ($text:literal, $lock:literal) => {
        $crate::db::sql::Sql::differs($text, concat!($text, $lock))
    };
}
pub(crate) use locking;
