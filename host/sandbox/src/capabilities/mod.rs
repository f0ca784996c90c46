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

/// Why a key is not taken, as the interface's error: a hidden character is refused each time, a length is a limit.
macro_rules! bad_key {
    ($what:literal, $key:expr) => {
        |bad| {
            let key = $crate::convert::shown($key, 128);
            let why = format!("{} {key} is refused: {bad}", $what);
            match bad {
                domain::text::BadName::Hidden(_) => Error::Denied(why),
                domain::text::BadName::Length { .. } => Error::Limit(why),
            }
        }
    };
}
use bad_key;

/// The answer to everything that is asked for while a plugin describes itself.
const NOTHING_YET: &str = "nothing is granted while the plugin describes itself";

/// An interface of types only.
impl types::Host for State {}
