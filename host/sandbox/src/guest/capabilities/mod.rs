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

use crate::guest::bindings::types;
use crate::guest::state::State;

/// Maps a bad key to the interface's error: a hidden character is `refused`, a bad length is `limit`.
macro_rules! bad_key {
    ($what:literal, $key:expr) => {
        |bad| {
            let key = $crate::guest::convert::shown($key, 128);
            let why = format!("{} {key} is refused: {bad}", $what);
            match bad {
                domain::text::BadName::Hidden(_) => Error::Denied(why),
                domain::text::BadName::Length { .. } => Error::Limit(why),
            }
        }
    };
}
use bad_key;

/// The error of every capability during `describe`.
const NOTHING_YET: &str = "nothing is granted while the plugin describes itself";

/// An interface that has only types.
impl types::Host for State {}
