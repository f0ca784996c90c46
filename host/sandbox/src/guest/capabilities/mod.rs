//! The host functions for guests, one file per WIT interface. Each translates between WIT and the attempt's
//! scope, and first checks the job's grants. Host functions must not panic on any value of a guest.

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

use domain::scope::ScopeError;

use crate::guest::bindings::types;
use crate::guest::state::{AttemptContext, GuestState};

/// Converts errors of the scope into those of an interface, which has its own type in contract 0.1.
macro_rules! convert_errors {
    ($($error:ident => $case:ident),+) => {
        impl From<domain::scope::ScopeError> for Error {
            fn from(error: domain::scope::ScopeError) -> Error {
                match error {
                    $(domain::scope::ScopeError::$error(why) => Error::$case(why),)+
                    #[allow(unreachable_patterns, reason = "an interface may have a case for each error")]
                    other => Error::Other(other.to_string()),
                }
            }
        }
    };
}
use convert_errors;

/// The error of every capability during `describe`.
const NOTHING_YET: &str = "nothing is granted while the plugin describes itself";

impl GuestState {
    fn granted(&self) -> Result<&AttemptContext, ScopeError> {
        self.granted.as_ref().ok_or_else(|| ScopeError::Denied(NOTHING_YET.to_owned()))
    }
}

/// An interface that has only types.
impl types::Host for GuestState {}
