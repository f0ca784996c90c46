//! Statements on claims.

use crate::db::sql::{Sql, locking};

/// Takes due items out of `due`: each by one host, recovered items first, then by due time. Each priority is a
/// range of its own: in one range over both, items of the first priority that are due later would be read, too. On
/// Postgres, a row that can be locked was never replaced, because rows of `due` are only inserted and deleted.
pub const DUE_TAKE: Sql = Sql::differs(
    "DELETE FROM due WHERE rowid IN (
        SELECT * FROM (SELECT rowid FROM due
            WHERE job = :job AND priority = 0 AND due_at_ms <= :now ORDER BY due_at_ms, item_id LIMIT :limit)
        UNION ALL
        SELECT * FROM (SELECT rowid FROM due
            WHERE job = :job AND priority = 1 AND due_at_ms <= :now AND (due_at_ms, item_id) > (:floor_at, :floor_item)
            ORDER BY due_at_ms, item_id LIMIT :limit)
        LIMIT :limit)
        AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
    RETURNING item_id, priority, due_at_ms",
    "WITH ahead AS MATERIALIZED (SELECT ctid AS place FROM due
            WHERE job = :job AND priority = 0 AND due_at_ms <= :now
                AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
            ORDER BY due_at_ms, item_id LIMIT :limit FOR UPDATE SKIP LOCKED),
        new AS MATERIALIZED (SELECT ctid AS place FROM due
            WHERE job = :job AND priority = 1 AND due_at_ms <= :now
                AND (due_at_ms, item_id) > (:floor_at, CAST(:floor_item AS UUID))
                AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
            ORDER BY due_at_ms, item_id LIMIT :limit - (SELECT COUNT(*) FROM ahead) FOR UPDATE SKIP LOCKED)
    DELETE FROM due WHERE ctid = ANY (ARRAY(SELECT place FROM ahead UNION ALL SELECT place FROM new))
    RETURNING item_id, priority, due_at_ms",
);

/// The items of a claim.
pub const ITEMS_TAKEN: Sql = Sql::same(
    "SELECT item.id, item.item_key, item.payload, item.attempts, item.deferrals, item.series, item.epoch, item.run_id,
        item.seen_run_id, item.first_attempt_at_ms, item.last_attempt_at_ms, item.error_code, item.error_message,
        item.batch_id, item.batch_index, item.operation, item.created_by, item.max_attempts
    FROM @taken(id uuid) @join(item ON item.id = taken.id)",
);

pub const CLAIM_ADD: Sql = Sql::differs(
    "INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items)
    SELECT :claim, :now, :until, COUNT(*), :job, :host, :incarnation, json_group_array(json_array(id, epoch))
    FROM @taken(id uuid, epoch bigint)",
    "INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items, epochs)
    SELECT :claim, :now, :until, COUNT(*), :job, :host, :incarnation, array_agg(taken.id), array_agg(taken.epoch)
    FROM @taken(id uuid, epoch bigint)",
);

/// Renews the leases of claims that this process made and still holds.
pub const CLAIMS_RENEW: Sql = Sql::differs(
    "UPDATE claim SET lease_until_ms = max(lease_until_ms, :until)
    WHERE host_id = :host AND incarnation = :incarnation AND id IN (SELECT id FROM @held(id uuid)) RETURNING id",
    "WITH mine AS MATERIALIZED (SELECT claim.id FROM @held(id uuid) @join(claim ON claim.id = held.id)
        WHERE claim.host_id = :host AND claim.incarnation = :incarnation ORDER BY claim.id FOR UPDATE OF claim)
    UPDATE claim SET lease_until_ms = GREATEST(claim.lease_until_ms, :until) FROM mine WHERE claim.id = mine.id
    RETURNING claim.id",
);

/// The lease of a claim that still holds an item.
pub const CLAIM_HOLDS: Sql = Sql::same(
    "SELECT claim.lease_until_ms FROM claim JOIN item ON item.id = :item AND item.epoch = :epoch WHERE claim.id = :claim",
);

/// Claims in the order of their ids. On Postgres they stay locked: until the end of the transaction, no other one
/// ends, renews or recovers their items.
pub const CLAIMS_LOCK: Sql = locking!(
    "SELECT claim.id, claim.open_items FROM @asked(id uuid) @join(claim ON claim.id = asked.id) ORDER BY claim.id",
    " FOR UPDATE OF claim"
);
/// The items of locked claims, in the order of their ids.
pub const ITEMS_LOCK: Sql = locking!(
    "SELECT item.id, item.epoch, item.state, item.attempts, item.run_id
    FROM @asked(id uuid, epoch bigint) @join(item ON item.id = asked.id)
    WHERE item.epoch = asked.epoch ORDER BY item.id",
    " FOR UPDATE OF item"
);
pub const CLAIMS_LOWER: Sql = Sql::same(
    "UPDATE claim SET open_items = claim.open_items - ended.items FROM @ended(id uuid, items bigint)
    @target(claim ON claim.id = ended.id)",
);
pub const CLAIMS_CLOSE: Sql = Sql::same("DELETE FROM claim WHERE id IN (SELECT id FROM @closed(id uuid))");

/// When the first item of a job is due: one step in the key of `due` for each priority, however many items wait.
macro_rules! next_due {
    ($job:literal) => {
        concat!(
            "(SELECT CAST(MIN(due_at_ms) AS BIGINT) FROM (
                SELECT due_at_ms FROM (SELECT due_at_ms FROM due
                    WHERE due.job = ",
            $job,
            " AND priority = 0 ORDER BY due_at_ms LIMIT 1) AS ahead
                UNION ALL SELECT due_at_ms FROM (SELECT due_at_ms FROM due
                    WHERE due.job = ",
            $job,
            " AND priority = 1 ORDER BY due_at_ms LIMIT 1) AS new) AS first) AS due_at_ms"
        )
    };
}

pub const NEXT_DUE: Sql = Sql::same(concat!("SELECT ", next_due!(":job")));

/// The same of each job: a few steps for each job with open items. A `GROUP BY` would read all items.
pub const NEXT_DUE_BY_JOB: Sql = Sql::same(concat!(
    "WITH RECURSIVE open (job) AS (
        SELECT job FROM (SELECT job FROM due ORDER BY job LIMIT 1) AS first_job
        UNION ALL
        SELECT (SELECT due.job FROM due WHERE due.job > open.job ORDER BY due.job LIMIT 1)
        FROM open WHERE open.job IS NOT NULL)
    SELECT open.job, ",
    next_due!("open.job"),
    "
    FROM open WHERE open.job IS NOT NULL"
));
