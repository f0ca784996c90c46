//! Write Tidemill jobs in Rust.
//!
//! A job is a type with the trait [`Job`], exported by [`export_job!`]. Each capability has a module here:
//! [`log`], [`config`], [`clock`], [`kv`], [`sql`], [`events`], [`alerts`], [`audit`], [`metrics`],
//! [`items`], [`locks`], [`http`]. A module that a job does not use is not imported by its component, so the
//! host need not grant it.

#[doc(hidden)]
pub mod bindings;
mod describe;
mod failure;
mod item;
mod job;

pub mod alerts;
pub mod audit;
pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod items;
pub mod kv;
pub mod locks;
pub mod log;
pub mod metrics;
pub mod sql;

pub use bindings::tidemill::job::types::{Error, Failure, Found, Item, Outcome, Page, PageRequest, Throttle};
pub use describe::{Describe, ParamType};
#[doc(hidden)]
pub use job::Exported;
pub use job::Job;
pub use serde_json::{self, json};

/// Builds the README's examples with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
