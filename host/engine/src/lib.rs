//! The engine: schedules create runs, runs create items, items create attempts. It sees plugins only as
//! [`domain::runner::Runner`] and does not depend on WebAssembly.
//!
//! The modules are in the order in which an item passes through them. The last group is used by all of them.

pub mod config;
pub mod engine;

mod scheduler;

mod discovery;

mod capacity;
mod queue;

mod executor;

mod heartbeat;
mod identity;
mod presence;
mod recovery;

mod backpressure;
mod clock_watch;
mod ctx;
pub mod families;
pub mod log_throttle;
mod metrics;
mod steadiness;
mod timer;
mod upkeep;

pub use config::EngineConfig;
pub use engine::Engine;
pub use identity::Identity;

#[cfg(test)]
mod tests;
