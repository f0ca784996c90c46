//! Runs plugins. This is the only crate that uses wasmtime, and it translates between WIT and the domain's
//! types.
//!
//! Invariant: a guest can end its own attempt, and affects nothing else. Every attempt gets a new `Store`
//! that is dropped at its end, unless its job lets the items of one claim share it. Every value from a guest is bounded before it is stored.

mod component_limits;
mod config;
mod engine;
mod error;
mod sandbox;

mod guest;
pub mod versions;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "measuring")]
pub mod measuring;
#[cfg(test)]
mod tests;

pub use config::{LoadLimits, SandboxConfig};
pub use error::SandboxError;
pub use sandbox::Sandbox;
pub use versions::compile::{Bounds, Child, Compiler, compile_stdin};
pub use versions::component::StatementCheck;
pub use versions::folder::PluginFile;
pub use versions::report::{ScanReport, Skipped, Trouble};
pub use versions::scan::{Loaded, Scan};
pub use versions::trial::Trial;
