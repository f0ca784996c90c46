//! One attempt: its scope (reads, buffered effects, SQL transactions) and the commit of its outcome.

pub(crate) mod bounds;
pub mod commit;
pub mod datasource;
pub mod kv;
pub mod locks;
pub mod replay;
pub(crate) mod room;
pub mod scope;
