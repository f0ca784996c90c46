//! The business world for the demo and the scenario tests: users and wallets, orders and their ledger,
//! campaigns and their stock, and simulated services (MPC, ledger, stock producer, proxy). It is not part of
//! the product: the host does not import it, and it does not import the host.

use std::net::SocketAddr;

#[macro_use]
mod pool;

pub mod address;
mod dice;
pub mod mpc;
pub mod outcome;
pub mod request;
pub mod seed;
pub mod services;
mod session;
mod shop;
pub mod standing;
pub mod time;
mod trade;
pub mod world;

/// The demo's jobs, as an admin would write them.
pub const CONFIG: &str = include_str!("../tidemill.toml");
/// The services' address in [`CONFIG`].
const SERVICES: &str = "127.0.0.1:7172";

/// [`CONFIG`] with the services' real address.
pub fn config_with(services: SocketAddr) -> String {
    CONFIG.replace(SERVICES, &services.to_string())
}

/// Jobs of [`CONFIG`]. Each has the same name as its plugin.
pub const JOBS: [&str; 11] = [
    "wallet-keygen-retry",
    "ledger-outbox",
    "finalize-retry",
    "finalize-recover",
    "metrics-collect",
    "stock-replenish",
    "lease-recovery",
    "monitoring-alert",
    "daily-report",
    "batch-compensation",
    "hello",
];

pub use mpc::{Mpc, MpcConfig, MpcStats};
pub use services::{Mood, Services};
pub use time::Time;
pub use world::{Counts, KeygenStatus, World};

#[cfg(test)]
mod tests;
