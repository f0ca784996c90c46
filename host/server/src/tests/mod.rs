//! Messages of the configuration, arguments, and the API against its router, without a socket.

mod api;
mod bad_requests;
mod cli;
mod config;
mod config_grants;
mod idempotency;
mod lines;
mod page;
mod raw_json;
mod schedules;
mod sinks;
mod text;
mod world;
