//! Versions of plugins: read from the folder, compiled, checked, and chosen for the next attempt.

pub(crate) mod canaries;
pub(crate) mod catalog;
pub(crate) mod compile;
pub(crate) mod component;
pub(crate) mod contract;
pub(crate) mod decided;
pub(crate) mod folder;
pub(crate) mod history;
pub mod signature;
