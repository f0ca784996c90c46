//! Every case that needs a world runs on SQLite and on Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mpc;
mod pure;
mod support;
mod world;
