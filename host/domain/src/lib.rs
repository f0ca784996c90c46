//! Types and rules of Tidemill. Pure: this crate does no IO, does not sleep and starts no task. The time is
//! always an argument; only [`clock`] reads it, for callers that have a `Clock`.

// Names, texts and time.
pub mod address;
pub mod bounds;
pub mod clock;
pub mod id;
pub mod origin;
pub mod secret;
pub mod text;

// Jobs: their due times, grants and limits, and how they share a host.
pub mod fair;
pub mod flow;
pub mod job;
pub mod limits;
pub mod schedule;

// Items, from a run to the end of an attempt.
pub mod batch;
pub mod failure;
pub mod item;
pub mod lease;
pub mod outcome;
pub mod retry;
pub mod run;
pub mod suspect;

// One attempt: the call of the plugin, its reads and its effects.
pub mod alert;
pub mod effect;
pub mod engine_event;
pub mod lock;
pub mod reuse;
pub mod runner;
pub mod scope;
mod scope_error;
mod value;

// Plugins and their versions.
pub mod plugin;
pub mod release;

#[cfg(test)]
mod tests;
