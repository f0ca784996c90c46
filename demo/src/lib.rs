//! The business world that the demo and the scenario tests run against: users, wallets and a simulated
//! MPC service. It is not part of the product: nothing in the host imports it, and it knows nothing of the host.

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
pub mod world;

pub use mpc::{Mpc, MpcConfig, MpcStats};
pub use time::Time;
pub use world::{Counts, KeygenStatus, World};

#[cfg(test)]
mod tests;
