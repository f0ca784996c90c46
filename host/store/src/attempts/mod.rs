//! One attempt: its scope (reads, buffered effects, SQL transactions) and the commit of its outcome.

pub mod commit;
pub mod datasource;
pub(crate) mod effects;
pub(crate) mod ends;
pub mod kv;
pub mod locks;
pub(crate) mod quota;
pub mod replay;
pub(crate) mod row;
pub mod scope;
pub(crate) mod sql;

use crate::store::Store;

/// Attempts: their ends, and those to replay.
#[derive(Clone, Copy)]
pub struct Attempts<'a> {
    pub(crate) store: &'a Store,
}
