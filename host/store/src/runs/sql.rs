//! Statements on runs.

use crate::db::sql::{Sql, postgres, sqlite};

pub const RUN_ADD: Sql = Sql::same(
    "INSERT INTO run (id, job, started_by, state, created_at_ms, scheduled_at_ms, params)
    VALUES ($1, $2, $3, 'discovering', $4, $5, $6)",
);
pub const RUN_OPEN_OF: Sql =
    Sql::same("SELECT id FROM run WHERE job = $1 AND state IN ('discovering', 'running') LIMIT 1");
pub const RUN_CLAIM: Sql = Sql::differs(sqlite::RUN_CLAIM, postgres::RUN_CLAIM);
pub const RUNS_RENEW: Sql = Sql::differs(sqlite::RUNS_RENEW, postgres::RUNS_RENEW);
/// Stores a page of a discovery, fenced; its items are in the same transaction.
pub const RUN_PAGE: Sql = Sql::same(
    "UPDATE run SET page_cursor = $4, found = found + $5, queued = queued + $6, waiting = waiting + $7,
        over_cap = over_cap + $8, manual = manual + $9, crashes = 0, digest = $10,
        error_code = COALESCE($11, error_code), error_message = COALESCE($12, error_message)
    WHERE id = $1 AND state || '' = 'discovering' AND epoch = $2 AND attempt_id = $3",
);
pub const RUN_QUEUED: Sql = Sql::same("SELECT queued, page_cursor FROM run WHERE id = $1");
/// Ends a discovery, fenced. The run has failed if items of a page were refused, and is finished if no item
/// is left to attempt.
pub const RUN_DISCOVERED: Sql = Sql::same(
    "UPDATE run SET state = CASE WHEN error_code IS NOT NULL THEN 'failed' WHEN done >= queued THEN 'finished'
            ELSE 'running' END, absent = $5, discovered_at_ms = $4,
        finished_at_ms = CASE WHEN error_code IS NOT NULL OR done >= queued THEN $4 ELSE NULL END,
        attempt_id = NULL, lease_until_ms = NULL
    WHERE id = $1 AND state || '' = 'discovering' AND epoch = $2 AND attempt_id = $3
    RETURNING id, job, error_code, CASE WHEN state = 'finished' THEN 1 ELSE 0 END AS now_finished",
);
pub const RUN_FAILED: Sql = Sql::same(
    "UPDATE run SET state = 'failed', error_code = $5, error_message = $6, discovered_at_ms = $4,
        finished_at_ms = $4, attempt_id = NULL, lease_until_ms = NULL
    WHERE id = $1 AND state || '' = 'discovering' AND epoch = $2 AND attempt_id = $3",
);
/// Releases a discovery at a shutdown: another host, or the next start, continues at its cursor.
pub const RUN_RELEASE: Sql = Sql::same(
    "UPDATE run SET attempt_id = NULL, lease_until_ms = NULL, host_id = NULL, crashes = crashes - 1
    WHERE id = $1 AND state || '' = 'discovering' AND epoch = $2 AND attempt_id = $3",
);
pub const RUNS_RELEASE_HOST: Sql = Sql::same(
    "UPDATE run SET attempt_id = NULL, lease_until_ms = NULL, host_id = NULL
    WHERE host_id = $1 AND state = 'discovering' AND attempt_id IS NOT NULL",
);
/// A newer run replaces them: their discovery ends, even if a host holds it.
pub const RUNS_CANCEL: Sql = Sql::same(
    "UPDATE run SET state = 'failed', error_code = 'cancelled', error_message = 'a newer run took its place',
        discovered_at_ms = COALESCE(discovered_at_ms, $2), finished_at_ms = $2, attempt_id = NULL, lease_until_ms = NULL
    WHERE job = $1 AND state IN ('discovering', 'running') RETURNING id, job, 1 AS now_finished",
);
/// Their queued items stay due, and count for the run that finds them next.
pub const ITEMS_LEAVE_CANCELLED: Sql = Sql::same(
    "UPDATE item SET run_id = NULL WHERE job = $1 AND state IN ('waiting', 'awaiting') AND run_id IN (SELECT id FROM run
        WHERE run.job = $1 AND run.error_code = 'cancelled')",
);
/// Counts ended first attempts; the last one finishes the run.
pub const RUN_DONE: Sql = Sql::same(
    "UPDATE run SET done = done + $2, failed = failed + $3,
        finished_at_ms = CASE WHEN state = 'running' AND done + $2 >= queued THEN $4 ELSE finished_at_ms END,
        state = CASE WHEN state = 'running' AND done + $2 >= queued THEN 'finished' ELSE state END
    WHERE id = $1
    RETURNING id, job, CASE WHEN state = 'finished' AND finished_at_ms = $4 THEN 1 ELSE 0 END AS now_finished",
);
pub const RUN_GET: Sql = Sql::same("SELECT * FROM run WHERE id = $1");
pub const RUNS_LIST: Sql = Sql::same(
    "SELECT * FROM run WHERE (CAST($1 AS TEXT) IS NULL OR job = $1) ORDER BY created_at_ms DESC, id DESC LIMIT $2",
);

// The result of each item that a run ($1) queued and attempted, by its last attempt in that run. If that
// attempt left the item open, by the item's present state (no longer found, decided by a person, attempted
// for a later run). `poison` means that the item was lost too often.
macro_rules! fates {
    ($rest:literal) => {
        concat!(
            "WITH fates AS (SELECT attempt.item_id, attempt.item_key, attempt.number, attempt.error_code,
                attempt.error_message, attempt.ended_at_ms, item.payload,
                CASE WHEN verdict = 'resolved' THEN 'success'
                    WHEN verdict IN ('permanent', 'exhausted') THEN 'failed'
                    WHEN verdict = 'lost' AND attempt.error_code = 'poison' THEN 'failed'
                    WHEN item.state = 'resolved' THEN 'success'
                    WHEN item.state IN ('manual_required', 'abandoned') THEN 'failed'
                    ELSE 'open' END AS fate
            FROM attempt JOIN item ON item.id = attempt.item_id
            WHERE attempt.run_id = $1 AND NOT EXISTS (SELECT 1 FROM attempt AS later
                WHERE later.run_id = $1 AND later.item_id = attempt.item_id AND later.epoch > attempt.epoch)) ",
            $rest
        )
    };
}

pub const RUN_RESULT: Sql = Sql::same(fates!(
    "SELECT queued, done, (SELECT COUNT(*) FROM fates WHERE fate = 'success') AS success,
        (SELECT COUNT(*) FROM fates WHERE fate = 'failed') AS failed FROM run WHERE id = $1"
));
pub const RUN_LAST_ENDED: Sql = Sql::same(fates!(
    "SELECT item_key, fate, ended_at_ms FROM fates WHERE fate <> 'open'
    ORDER BY ended_at_ms DESC, item_id DESC LIMIT 1"
));
pub const RUN_FAILURES: Sql = Sql::same(fates!(
    "SELECT item_key, number, error_code, error_message, payload FROM fates WHERE fate = 'failed'
    ORDER BY ended_at_ms, item_id LIMIT $2"
));
