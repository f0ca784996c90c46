//! Tests of the whole product: real components, real databases, real processes.
//! Every test of state runs on SQLite and on Postgres.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod alerts;
mod audit_archive;
mod batches;
mod browser;
mod bulk;
mod config_edits;
mod counted_work;
mod delivery;
mod hosts;
mod idempotency;
mod jobs;
mod languages;
mod live_events;
mod locks;
mod metrics;
mod page;
mod pooler;
mod recovery;
mod replay;
mod secrets;
mod stock;
mod tokens;
mod trade;
mod upgrade;
mod upload;
mod wallet;

mod bad_input;
mod clock_jump;
mod crash;
mod disk;
mod exhaustion;
mod first_run;
mod hot_swap;
mod log_output;
mod signals;
mod store_file;
