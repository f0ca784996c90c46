//! What guests can call, one file per WIT interface. Each only translates between WIT and the attempt's
//! scope, and first asks whether the job has the grant. Nothing here may panic on a guest's value.

mod alerts;
mod audit;
mod config;
mod events;
pub mod http;
mod items;
pub mod keyvalue;
mod kv;
mod locks;
mod logging;
mod metrics;
mod sql;

use crate::bindings::types;
use crate::state::State;

/// The answer to everything that is asked for while a plugin describes itself.
const NOTHING_YET: &str = "nothing is granted while the plugin describes itself";

/// An interface of types only.
impl types::Host for State {}
