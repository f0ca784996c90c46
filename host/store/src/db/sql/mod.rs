//! A statement has one text for both databases, or one for each. `sqlite.rs` and `postgres.rs` hold the texts that differ.

pub(crate) mod postgres;
pub(crate) mod sqlite;

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
        return crate::simulation::seen(self.sqlite);
        #[cfg(not(feature = "simulation"))]
        self.sqlite
    }

    pub fn postgres(self) -> &'static str {
        self.postgres
    }
}
