//! All SQL statements. `sqlite.rs` and `postgres.rs` hold only the texts that differ.

pub mod alerts;
pub mod answers;
pub mod batches;
pub mod clock;
pub mod events;
pub mod flow;
pub mod history;
pub mod hosts;
pub mod items;
pub mod jobs;
pub mod locks;
pub mod plugins;
pub mod releases;
pub mod runs;

mod postgres;
mod sqlite;

/// A statement, with its text for each database.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    const fn same(text: &'static str) -> Sql {
        Sql { sqlite: text, postgres: text }
    }

    const fn differs(sqlite: &'static str, postgres: &'static str) -> Sql {
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
