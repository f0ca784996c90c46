//! The host functions for guests, one file per WIT interface. Each translates between WIT and the attempt's
//! scope, and first checks the job's grants. Host functions must not panic on any value of a guest.

mod alerts;
mod audit;
mod config;
mod errors;
mod events;
pub mod http;
mod items;
pub mod keyvalue;
mod kv;
mod locks;
mod logging;
mod metrics;
mod sql;

use domain::scope::ScopeError;

use crate::guest::bindings::types;
use crate::guest::state::{Granted, State};

/// The error of every capability during `describe`.
const NOTHING_YET: &str = "nothing is granted while the plugin describes itself";

impl State {
    fn granted(&self) -> Result<&Granted, ScopeError> {
        self.granted.as_ref().ok_or_else(|| ScopeError::Denied(NOTHING_YET.to_owned()))
    }
}

/// An interface that has only types.
impl types::Host for State {}
