//! The business world that the demo and the scenario tests run against: users and wallets, orders and their ledger,
//! campaigns and their stock, and a simulated MPC service. It is not part of the product: nothing in the host imports it, and it knows nothing of the host.

#[macro_use]
mod pool;

pub mod address;
mod dice;
pub mod mpc;
pub mod outcome;
pub mod request;
pub mod seed;
mod session;
pub mod standing;
pub mod time;
mod trade;
pub mod world;

/// The demo's jobs, as an admin would write them.
pub const CONFIG: &str = include_str!("../tidemill.toml");
/// Jobs of [`CONFIG`]; each is its plugin's name too.
pub const JOBS: [&str; 10] = [
    "wallet-keygen-retry",
    "ledger-outbox",
    "finalize-retry",
    "finalize-recover",
    "metrics-collect",
    "lease-recovery",
    "monitoring-alert",
    "daily-report",
    "batch-compensation",
    "hello",
];

pub use mpc::{Mpc, MpcConfig, MpcStats};
pub use time::Time;
pub use world::{Counts, KeygenStatus, World};

#[cfg(test)]
mod tests;
