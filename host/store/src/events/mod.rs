//! Events for the world outside: the outbox, and their delivery to sinks.

pub mod delivery;
pub mod inbox;
pub mod outbox;
pub(crate) mod sql;

use crate::store::Store;

/// Events of jobs until a sink accepts them.
#[derive(Clone, Copy)]
pub struct Outbox<'a> {
    pub(crate) store: &'a Store,
}
