//! The running machine: schedules become runs, runs become items, items become attempts.
//! It meets plugins only as [`domain::runner::Runner`] and knows nothing of WebAssembly.
//!
//! In the order in which an item meets them:

pub mod config;
pub mod engine;

mod scheduler;

mod discovery;

mod queue;
mod rooms;

mod executor;

mod heartbeat;
mod identity;
mod recovery;

pub mod families;
pub mod feed;
mod figures;
pub mod seldom;
mod strain;
mod timer;
mod upkeep;
mod watch;

pub use config::EngineConfig;
pub use engine::Engine;
pub use identity::Identity;

#[cfg(test)]
mod tests;
