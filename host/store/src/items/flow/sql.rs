//! Statements on running and due items, for the limits of jobs.

use crate::db::sql::{Sql, postgres, sqlite};

pub const RATE_OPEN: Sql = Sql::same(
    "INSERT INTO rate (job, window_start_ms, used) VALUES ($1, $2, 0) ON CONFLICT (job) DO NOTHING",
);
pub const RATE_LOCK: Sql = Sql::differs(sqlite::RATE_LOCK, postgres::RATE_LOCK);
pub const RATE_GET: Sql = Sql::same("SELECT window_start_ms, used FROM rate WHERE job = $1");
pub const RATE_SET: Sql = Sql::same("UPDATE rate SET window_start_ms = $2, used = $3 WHERE job = $1");

/// Expired leases count until their items are recovered, because no other host holds them before.
pub const RUNNING_COUNT: Sql =
    Sql::same("SELECT COUNT(*) AS n FROM item WHERE job = $1 AND state = 'running'");
pub const RUNNING_KEYS: Sql = Sql::same("SELECT item_key FROM item WHERE job = $1 AND state = 'running'");

pub const ITEMS_DUE: Sql = Sql::differs(sqlite::ITEMS_DUE, postgres::ITEMS_DUE);
