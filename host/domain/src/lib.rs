//! Types and rules of Tidemill. Pure: this crate does no IO, does not sleep and starts no task. The time is
//! always an argument; only [`clock`] reads it, for callers that have a `Clock`.
//!
//! Modules are listed in reading order, which is the order in which an item meets them.

pub mod address;
pub mod clock;
pub mod cron;
pub mod fair;
pub mod flow;
pub mod id;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod origin;
pub mod release;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod suspect;
pub mod text;
pub mod zone;

pub mod alert;
pub mod job;
pub mod plugin;
mod statement;
pub mod tick;

pub mod batch;
pub mod item;
pub mod outcome;
pub mod run;

pub mod effect;
pub mod engine_event;
pub mod runner;
pub mod scope;

#[cfg(test)]
mod tests;
