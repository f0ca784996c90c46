//! Events for the world outside: the outbox, and their delivery to sinks.

pub mod delivery;
pub mod outbox;
pub(crate) mod sql;
