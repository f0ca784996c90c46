//! Runs plugins. The only crate that names wasmtime, and the border between WIT and the domain's words.
//!
//! Its invariant: whatever a guest does is the end of its own attempt and of nothing else. Every attempt
//! gets a fresh `Store` that is dropped at its end, and everything that a guest hands over is bounded
//! before it is kept.

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
mod last_words;
mod limiter;
mod log;
mod meter;
mod output;
pub mod signature;
mod state;
mod tally;
mod trap;
mod turns;

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
