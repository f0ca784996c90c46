//! Parts that several benchmarks share: hosts, requests, items to drain, and figures.

pub mod brokers;
pub mod build;
pub mod drain;
pub mod figures;
pub mod http;
pub mod instant;
pub mod result;
pub mod served;
pub mod usage;
