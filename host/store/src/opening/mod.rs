//! Opening a store: its file and permissions, its identity, its tables.

pub(crate) mod connect;
pub(crate) mod leftover;
pub(crate) mod migrate;
pub mod private;
pub mod schema;
pub(crate) mod sql;
pub mod sqlite_file;
pub mod store_id;
pub mod work_copy;
