//! Outgoing HTTP requests of guests. `capabilities/http.rs` checks a request. This module sends it and limits
//! its response.

mod client;
mod exchange;
pub mod resolver;
mod trouble;

pub use client::{Clients, HttpClient};
pub use exchange::{Bounds, send};
