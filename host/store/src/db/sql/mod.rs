//! A statement has one text for both databases, or one for each. `sqlite.rs` and `postgres.rs` hold the texts that differ.

pub(crate) mod postgres;
pub(crate) mod sqlite;

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

    pub fn sqlite(self) -> &'static str {
        #[cfg(feature = "simulation")]
        return REWRITE.get().map_or(self.sqlite, |rewrite| rewrite(self.sqlite));
        #[cfg(not(feature = "simulation"))]
        self.sqlite
    }

    pub fn postgres(self) -> &'static str {
        self.postgres
    }
}
