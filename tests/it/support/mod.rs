//! Shared helpers of the tests.

pub mod broker;
pub mod database;
pub mod host;
pub mod http;
pub mod invariants;
pub mod jobs;
pub mod plugins;
pub mod process;
pub mod proxy;
pub mod random;
pub mod site;
pub mod wait;
pub mod webhook;
