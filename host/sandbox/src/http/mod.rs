//! HTTP requests of guests on their way out: what is asked is checked in `capabilities/http.rs`, here it
//! is sent and its answer bounded.

mod client;
mod exchange;
pub mod resolver;
mod trouble;

pub use client::{Clients, HttpClient};
pub use exchange::{Bounds, send};
