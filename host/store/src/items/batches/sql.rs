//! Statements on batches: items that are submitted together.

use crate::db::sql::Sql;

pub const BATCH_EXISTS: Sql = Sql::same("SELECT job FROM item WHERE batch_id = $1 LIMIT 1");
pub const BATCH_ITEM_ADD: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, batch_id, batch_index, operation, created_by,
        max_attempts, error_code, error_message, created_at_ms, updated_at_ms)
    VALUES ($1, $2, $3, $4, 'waiting', $5, $6, $7, $8, $9, $10, $11, $12, $5, $5)",
);
/// Lists batches with the states of their items, the newest first.
pub const BATCHES_LIST: Sql = Sql::same(
    "SELECT batch_id, MIN(job) AS job, MIN(created_by) AS created_by, CAST(MIN(created_at_ms) AS BIGINT) AS created_at_ms,
        COUNT(*) AS total,
        CAST(SUM(CASE WHEN state = 'waiting' AND attempts = 0 THEN 1 ELSE 0 END) AS BIGINT) AS pending,
        CAST(SUM(CASE WHEN state IN ('waiting', 'awaiting') AND attempts > 0 THEN 1 ELSE 0 END) AS BIGINT) AS retrying,
        CAST(SUM(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS BIGINT) AS running,
        CAST(SUM(CASE WHEN state = 'resolved' THEN 1 ELSE 0 END) AS BIGINT) AS resolved,
        CAST(SUM(CASE WHEN state = 'manual_required' THEN 1 ELSE 0 END) AS BIGINT) AS manual_required,
        CAST(SUM(CASE WHEN state = 'abandoned' THEN 1 ELSE 0 END) AS BIGINT) AS abandoned
    FROM item WHERE batch_id IS NOT NULL AND (CAST($1 AS TEXT) IS NULL OR batch_id = $1)
    GROUP BY batch_id ORDER BY MIN(created_at_ms) DESC, batch_id LIMIT $2",
);
pub const BATCH_ITEMS: Sql =
    Sql::same("SELECT * FROM item WHERE batch_id = $1 ORDER BY batch_index LIMIT $2 OFFSET $3");
/// Open items of all batches, the oldest first.
pub const BATCH_ITEMS_OPEN: Sql = Sql::same(
    "SELECT * FROM item WHERE batch_id IS NOT NULL AND state IN ('waiting', 'running', 'awaiting')
    ORDER BY created_at_ms, batch_id, batch_index LIMIT $1",
);
pub const BATCH_DUE: Sql = Sql::same(
    "UPDATE item SET due_at_ms = $2, updated_at_ms = $2, version = version + 1
    WHERE batch_id = $1 AND state IN ('waiting', 'awaiting') AND due_at_ms > $2",
);
