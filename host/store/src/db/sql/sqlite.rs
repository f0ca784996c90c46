//! Statement texts for SQLite. A writing transaction holds the only write lock, so rows need no locks.

pub const VERSION: &str = "SELECT sqlite_version() AS version";

pub const OWN_TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('_sqlx_migrations', 'store_identity')";
pub const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms";

pub const ITEM_CLAIM: &str = "UPDATE item SET state = 'running', epoch = epoch + 1, attempt_id = $1, host_id = $2,
        lease_until_ms = $3, claimed_at_ms = $4, crashes = crashes + 1, updated_at_ms = $4, version = version + 1
    WHERE id IN (SELECT id FROM item
        WHERE job = $5 AND state IN ('waiting', 'awaiting') AND due_at_ms <= $4
            AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN ($5, '*'))
        ORDER BY priority, due_at_ms, created_at_ms LIMIT $6)
    RETURNING *";

pub const ITEM_CLAIM_PICKED: &str = "UPDATE item SET state = 'running', epoch = epoch + 1, attempt_id = $1, host_id = $2,
        lease_until_ms = $3, claimed_at_ms = $4, crashes = crashes + 1, updated_at_ms = $4, version = version + 1
    WHERE state IN ('waiting', 'awaiting') AND id IN (SELECT value FROM json_each($5))
    RETURNING *";

pub const ITEMS_DUE: &str = "SELECT id, item_key FROM item
    WHERE job = $1 AND state IN ('waiting', 'awaiting') AND due_at_ms <= $2
        AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN ($1, '*'))
        AND CASE WHEN instr(item_key, $3) > 0 THEN substr(item_key, 1, instr(item_key, $3) - 1) ELSE item_key END NOT IN (SELECT value FROM json_each($4)) AND id NOT IN (SELECT value FROM json_each($5))
    ORDER BY priority, due_at_ms, created_at_ms LIMIT $6";

pub const ITEMS_LOST: &str =
    "SELECT id, job, item_key, epoch, attempt_id, host_id, attempts, crashes, run_id, seen_run_id,
        claimed_at_ms, created_at_ms
    FROM item WHERE state = 'running' AND (lease_until_ms < $1 OR host_id = $2)
        AND attempt_id NOT IN (SELECT value FROM json_each($4))
    ORDER BY created_at_ms LIMIT $3";

pub const LOCK_ROW: &str = "SELECT token FROM named_lock WHERE name = $1";

pub const RATE_LOCK: &str = "SELECT window_start_ms, used FROM rate WHERE job = $1";

pub const ITEMS_BY_KEYS: &str =
    "SELECT id, item_key, payload, state, due_at_ms, run_id, last_attempt_at_ms, exhausted, version
    FROM item WHERE job = $1 AND item_key IN (SELECT value FROM json_each($2))";

/// Uses the index of open runs, and repeats its condition for that. In the order of time, SQLite would read
/// all finished runs.
pub const RUN_CLAIM: &str = "UPDATE run SET epoch = epoch + 1, attempt_id = $1, host_id = $2, lease_until_ms = $3, crashes = crashes + 1
    WHERE id IN (SELECT id FROM run INDEXED BY run_open
        WHERE job = $4 AND state IN ('discovering', 'running') AND state = 'discovering' AND (lease_until_ms IS NULL OR lease_until_ms < $5)
            AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN ($4, '*'))
        ORDER BY created_at_ms LIMIT 1)
    RETURNING *";

pub const ITEMS_RENEW: &str =
    "UPDATE item SET lease_until_ms = max(lease_until_ms, $2) WHERE state = 'running' AND host_id = $1
        AND attempt_id IN (SELECT value FROM json_each($3))
    RETURNING attempt_id";

pub const RUNS_RENEW: &str = "UPDATE run INDEXED BY run_open SET lease_until_ms = max(lease_until_ms, $2)
    WHERE state IN ('discovering', 'running') AND state = 'discovering' AND host_id = $1
        AND attempt_id IN (SELECT value FROM json_each($3))
    RETURNING attempt_id";

pub const EVENTS_CLAIM: &str = "UPDATE event SET due_at_ms = $3, tries = tries + 1 WHERE id IN (
        SELECT head.id FROM event AS head INDEXED BY event_pending
        WHERE head.delivered_at_ms IS NULL AND head.dead_at_ms IS NULL AND head.due_at_ms <= $2
        AND head.topic IN (SELECT value FROM json_each($1))
        AND NOT EXISTS (SELECT 1 FROM event AS earlier
            WHERE earlier.topic = head.topic AND earlier.event_key = head.event_key
                AND earlier.delivered_at_ms IS NULL AND earlier.dead_at_ms IS NULL
                AND (earlier.created_at_ms < head.created_at_ms
                    OR (earlier.created_at_ms = head.created_at_ms AND earlier.seq < head.seq)))
        ORDER BY head.created_at_ms, head.seq LIMIT $4)
    RETURNING *";
