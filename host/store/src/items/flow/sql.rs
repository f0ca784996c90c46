//! Statements on running and due items, for the limits of jobs.

use crate::db::sql::{Sql, locking};

pub const RATE_OPEN: Sql = Sql::same(
    "INSERT INTO rate (job, window_start_ms, used) VALUES (:job, 0, 0) ON CONFLICT (job) DO NOTHING",
);
pub const RATE_LOCK: Sql = locking!("SELECT window_start_ms, used FROM rate WHERE job = :job", " FOR UPDATE");
pub const RATE_GET: Sql = Sql::same("SELECT window_start_ms, used FROM rate WHERE job = :job");
pub const RATE_SET: Sql =
    Sql::same("UPDATE rate SET window_start_ms = :start, used = :used WHERE job = :job");

/// Expired leases count until their items are recovered, because no other host holds them before.
pub const RUNNING_COUNT: Sql =
    Sql::same("SELECT CAST(COALESCE(SUM(open_items), 0) AS BIGINT) AS items FROM claim WHERE job = :job");
pub const RUNNING_KEYS: Sql = Sql::same(
    "SELECT item.item_key FROM claimed_item AS claimed @join(item ON item.id = claimed.item_id)
    WHERE item.epoch = claimed.epoch AND claimed.job = :job",
);

/// Due items of one priority whose prefix is not full, and that are not picked yet. Postgres skips items that another
/// host is claiming.
pub const ITEMS_DUE: Sql = Sql::differs(
    "SELECT due.item_id, due.due_at_ms, item.item_key FROM due @join(item ON item.id = due.item_id)
    WHERE due.job = :job AND due.priority = :priority AND due.due_at_ms <= :now
        AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
        AND CASE WHEN instr(item.item_key, :separator) > 0
            THEN substr(item.item_key, 1, instr(item.item_key, :separator) - 1) ELSE item.item_key END
            NOT IN (SELECT prefix FROM @taken_prefixes(prefix text))
        AND due.item_id NOT IN (SELECT id FROM @picked(id uuid))
    ORDER BY due.due_at_ms, due.item_id LIMIT :limit",
    "SELECT due.item_id, due.due_at_ms, item.item_key FROM due @join(item ON item.id = due.item_id)
    WHERE due.job = :job AND due.priority = :priority AND due.due_at_ms <= :now
        AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
        AND split_part(item.item_key, :separator, 1) NOT IN (SELECT prefix FROM @taken_prefixes(prefix text))
        AND due.item_id NOT IN (SELECT id FROM @picked(id uuid))
    ORDER BY due.due_at_ms, due.item_id LIMIT :limit FOR UPDATE OF due SKIP LOCKED",
);
