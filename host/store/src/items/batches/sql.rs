//! Statements on batches: items that are submitted together.

use crate::db::sql::Sql;
use crate::items::sql::items;

pub const BATCH_EXISTS: Sql = Sql::same("SELECT job FROM batch WHERE id = :batch");
pub const BATCH_ADD: Sql =
    Sql::same("INSERT INTO batch (id, job, created_by, created_at_ms) VALUES (:batch, :job, :by, :now)");
pub const BATCH_ITEMS_ADD: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, batch_id, batch_index, operation, created_by,
        max_attempts, error_code, error_message, created_at_ms, updated_at_ms)
    SELECT id, :job, item_key, payload, 'scheduled', :now, :batch, batch_index, operation, :by, max_attempts,
        error_code, error_message, :now, :now
    FROM @added(id uuid, item_key text, payload text, batch_index bigint, operation text, max_attempts bigint,
        error_code text, error_message text)",
);
/// Lists batches with the states of their items, the newest first.
pub const BATCHES_LIST: Sql = Sql::same(
    "SELECT newest.id AS batch_id, newest.job, newest.created_by, newest.created_at_ms, COUNT(*) AS total,
        CAST(SUM(CASE WHEN claimed.item_id IS NULL AND item.state = 'scheduled' AND item.attempts = 0 THEN 1 ELSE 0 END)
            AS BIGINT) AS pending,
        CAST(SUM(CASE WHEN claimed.item_id IS NULL AND item.state IN ('scheduled', 'awaiting') AND item.attempts > 0
            THEN 1 ELSE 0 END) AS BIGINT) AS retrying,
        COUNT(claimed.item_id) AS running,
        CAST(SUM(CASE WHEN item.state = 'resolved' THEN 1 ELSE 0 END) AS BIGINT) AS resolved,
        CAST(SUM(CASE WHEN item.state = 'manual_required' THEN 1 ELSE 0 END) AS BIGINT) AS manual_required,
        CAST(SUM(CASE WHEN item.state = 'abandoned' THEN 1 ELSE 0 END) AS BIGINT) AS abandoned
    FROM (SELECT id, job, created_by, created_at_ms FROM batch WHERE CAST(:batch AS TEXT) IS NULL OR id = :batch
        ORDER BY created_at_ms DESC, id LIMIT :limit) AS newest
    JOIN item ON item.batch_id = newest.id
    LEFT JOIN claimed_item AS claimed ON claimed.job = item.job AND claimed.item_id = item.id
        AND claimed.epoch = item.epoch
    GROUP BY newest.id, newest.job, newest.created_by, newest.created_at_ms
    ORDER BY newest.created_at_ms DESC, newest.id",
);
pub const BATCH_ITEMS: Sql =
    Sql::same(items!("WHERE item.batch_id = :batch ORDER BY item.batch_index LIMIT :limit OFFSET :from"));
/// Open items of all batches, the oldest first.
pub const BATCH_ITEMS_OPEN: Sql = Sql::same(items!(
    "WHERE item.batch_id IS NOT NULL AND item.state IN ('scheduled', 'awaiting')
    ORDER BY item.created_at_ms, item.batch_id, item.batch_index LIMIT :limit"
));
/// Items of a batch that are due later, in the order of their ids.
pub const BATCH_LATER: Sql = crate::db::sql::locking!(
    "SELECT id, job, priority, due_at_ms FROM item
    WHERE batch_id = :batch AND state IN ('scheduled', 'awaiting') AND due_at_ms > :now ORDER BY id",
    " FOR UPDATE"
);
pub const ITEMS_DUE_NOW: Sql = Sql::same(
    "UPDATE item SET due_at_ms = :now, updated_at_ms = :now, version = item.version + 1
    FROM @moved(id uuid) @target(item ON item.id = moved.id)",
);
