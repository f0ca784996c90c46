//! The interfaces of Tidemill and its wiring: configuration, command line, HTTP API, page, logs.
//! This is the only crate that knows both the engine and the sandbox. The binary's `main` only
//! parses and calls [`cli::run`].

pub mod archive;
pub mod cli;
pub mod config;
mod delivery;
pub mod health;
mod plugins;
mod raw_json;
mod replay;
pub mod telemetry;

pub mod app;
pub mod http;
mod state;

pub mod api;
pub mod dashboard;

mod demo;

#[cfg(test)]
mod tests;
