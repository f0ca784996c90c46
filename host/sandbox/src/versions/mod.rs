//! Versions of plugins: read from the folder, compiled, checked, and chosen for the next attempt.

pub(crate) mod active_versions;
pub(crate) mod canaries;
pub(crate) mod catalog;
pub(crate) mod compile;
pub(crate) mod component;
pub(crate) mod contract;
pub(crate) mod folder;
pub(crate) mod history;
pub(crate) mod loads;
pub(crate) mod report;
pub(crate) mod scan;
pub mod signature;
pub(crate) mod trial;
pub(crate) mod version;
