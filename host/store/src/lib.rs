//! Persistence of the domain: the only crate of the product that depends on sqlx. SQLite and Postgres share
//! one SQL text per statement; `db/sql/sqlite.rs` and `db/sql/postgres.rs` hold only the differences.
//!
//! Invariant: only [`attempts::commit`] and the functions of [`items`] change the state of an item, always with
//! compare-and-set, and always together with its effects and its audit trail.

pub mod config;
pub mod error;
pub mod feed;
pub mod store;
pub mod tasks;

mod db;
mod host_feed;
pub mod opening;

pub mod attempts;
pub mod events;
pub mod items;
pub mod jobs;
pub mod runs;

pub mod alerts;
pub mod answers;
pub mod audit;
pub mod history;
pub mod hosts;
pub mod plugins;
pub mod tokens;

pub use config::StoreConfig;
pub use db::Decoded;
pub use error::StoreError;
pub use store::Store;

#[cfg(feature = "simulation")]
pub mod simulation;

#[cfg(test)]
mod tests;
