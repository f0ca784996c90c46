//! Runs plugins. This is the only crate that uses wasmtime, and it translates between WIT and the domain's
//! types.
//!
//! Invariant: a guest can end its own attempt, and affects nothing else. Every attempt gets a new `Store`
//! that is dropped at its end. Every value from a guest is bounded before it is stored.

mod config;
mod engine;
mod exhausted;
mod sandbox;

mod catalog;
mod compile;
mod component;
mod contract;
mod decided;
mod folder;
mod history;

mod http;

mod address_space;
mod attempt;
mod canaries;
mod clocks;
mod convert;
mod cpu_permits;
mod last_words;
mod limiter;
mod log;
mod meter;
mod output;
pub mod signature;
mod state;
mod tally;
mod trap;

mod bindings;
mod capabilities;

#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use catalog::{ScanReport, Skipped, Trial, Trouble};
pub use compile::{Bounds, Child, Compiler, compile_stdin};
pub use component::StatementCheck;
pub use config::{LoadLimits, SandboxConfig};
pub use decided::{Answer, Arrival, Candidate, Decided, Proposal, Standing, Versions};
pub use folder::PluginFile;
pub use sandbox::{Sandbox, SandboxError};
