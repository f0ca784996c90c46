//! Persistence of the domain: the only crate of the product that depends on sqlx. SQLite and Postgres share
//! one SQL text per statement; `sql/sqlite.rs` and `sql/postgres.rs` hold only the differences.
//!
//! Invariant: only [`commit`] and the functions of [`items`] change the state of an item, always with
//! compare-and-set, and always together with its effects and its audit trail.

pub mod config;
pub mod error;

mod db;
mod leftover;
mod migrate;
pub mod private;
pub mod schema;
mod sql;
pub mod sqlite_file;
pub mod store;
pub mod store_id;
pub mod tasks;
mod wake;

pub mod edits;
pub mod jobs;
pub mod pauses;
pub mod results;
pub mod runs;

mod bounds;
pub mod enqueue;
pub mod flow;
pub mod items;
pub mod kv;
pub mod locks;
mod reconcile;
pub mod recovery;
mod room;
pub mod scope;
mod taken;

pub mod commit;

pub mod alerts;
pub mod answers;
pub mod archive;
pub mod audit;
pub mod batches;
pub mod clock;
pub mod datasource;
pub mod delivery;
pub mod history;
pub mod hosts;
pub mod outbox;
pub mod plugins;
pub mod releases;
pub mod replay;
pub mod tokens;
pub mod uploads;

pub use config::StoreConfig;
pub use error::StoreError;
pub use store::Store;

#[cfg(feature = "simulation")]
pub mod simulation;

#[cfg(test)]
mod tests;
