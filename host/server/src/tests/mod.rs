//! Tests of configuration messages, of arguments, and of the API's router without a socket.

mod api;
mod bad_requests;
mod bulk;
mod cli;
mod config;
mod config_docs;
mod config_grants;
mod filters;
mod idempotency;
mod lines;
mod page;
mod raw_json;
mod routes;
mod schedules;
mod sinks;
mod text;
mod waits;
mod world;
