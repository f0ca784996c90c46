//! One call of a guest: its store, the interfaces that it may import, its limits, and the translation of its answer.

pub(crate) mod address_space;
pub(crate) mod attempt;
pub(crate) mod bindings;
pub(crate) mod capabilities;
pub(crate) mod clocks;
pub(crate) mod convert;
pub(crate) mod cpu_permits;
pub(crate) mod exhausted;
pub(crate) mod http;
pub(crate) mod instance;
pub(crate) mod last_words;
pub(crate) mod limiter;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod output;
pub(crate) mod state;
pub(crate) mod trap;
pub(crate) mod usage;
