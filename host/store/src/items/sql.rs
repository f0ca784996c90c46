//! Statements on items and their attempts. Each change of a state is limited to the states that it may start
//! from.

use crate::db::sql::{Sql, postgres, sqlite};

/// Each due item is claimed by one host: recovered items first, then by due time.
pub const ITEM_CLAIM: Sql = Sql::differs(sqlite::ITEM_CLAIM, postgres::ITEM_CLAIM);
/// The same for preselected items ($5).
pub const ITEM_CLAIM_PICKED: Sql = Sql::differs(sqlite::ITEM_CLAIM_PICKED, postgres::ITEM_CLAIM_PICKED);
pub const ITEMS_LOST: Sql = Sql::differs(sqlite::ITEMS_LOST, postgres::ITEMS_LOST);
pub const ITEMS_BY_KEYS: Sql = Sql::differs(sqlite::ITEMS_BY_KEYS, postgres::ITEMS_BY_KEYS);

/// Ends an attempt, fenced: a stale holder changes no row.
pub const ITEM_END: Sql = Sql::same(
    "UPDATE item SET state = $4, due_at_ms = $5, attempts = $6, note = $7, error_code = $8, error_message = $9,
        first_attempt_at_ms = $10,
        last_attempt_at_ms = COALESCE($11, last_attempt_at_ms),
        resolved_at_ms = CASE WHEN $4 = 'resolved' THEN CAST($12 AS BIGINT) END, resolved_by = NULL,
        series = $13, exhausted = $14, deferrals = $15, crashes = 0, priority = 1, run_id = NULL, attempt_id = NULL, host_id = NULL, lease_until_ms = NULL,
        updated_at_ms = $12, version = version + 1
    WHERE id = $1 AND state || '' = 'running' AND epoch = $2 AND attempt_id = $3",
);

/// Releases a claim at a shutdown or after a failure of the host. The item is due again at $5, before new
/// items, as if it had not been claimed. Only a failure leaves an error.
pub const ITEM_RELEASE: Sql = Sql::same(
    "UPDATE item SET state = 'waiting', due_at_ms = $5, priority = 0, crashes = crashes - 1,
        error_code = COALESCE($6, error_code), error_message = COALESCE($7, error_message),
        attempt_id = NULL, host_id = NULL, lease_until_ms = NULL, updated_at_ms = $4, version = version + 1
    WHERE id = $1 AND state || '' = 'running' AND epoch = $2 AND attempt_id = $3",
);

pub const ITEM_HELD: Sql = Sql::same(
    "SELECT lease_until_ms FROM item WHERE id = $1 AND state || '' = 'running' AND epoch = $2 AND attempt_id = $3",
);

pub const ATTEMPT_KNOWN: Sql = Sql::same(
    "SELECT item_id FROM attempt WHERE item_id = $1 AND epoch = $2 AND attempt_id = $3 AND verdict <> 'lost'",
);

pub const ITEMS_RENEW: Sql = Sql::differs(sqlite::ITEMS_RENEW, postgres::ITEMS_RENEW);

/// Recovers an item of a lost host, due at $5, or leaves it to a person after too many crashes.
pub const ITEM_RECOVER: Sql = Sql::same(
    "UPDATE item SET state = $4, due_at_ms = $5, priority = 0, attempt_id = NULL, host_id = NULL,
        run_id = CASE WHEN $4 = 'manual_required' THEN NULL ELSE run_id END,
        lease_until_ms = NULL, error_code = COALESCE($6, error_code), error_message = COALESCE($7, error_message),
        updated_at_ms = $8, version = version + 1
    WHERE id = $1 AND state || '' = 'running' AND epoch = $2 AND attempt_id = $3",
);

/// Number of items held by a host that were lost at least $2 times before.
pub const SUSPECTS_OF_HOST: Sql =
    Sql::same("SELECT COUNT(*) AS n FROM item WHERE state = 'running' AND host_id = $1 AND crashes >= $2");

/// An attempt belongs to the run that queued its item ($18). A later attempt has no run of its own and
/// belongs to the run of the attempt before it.
pub const ATTEMPT_ADD: Sql = Sql::same(
    "INSERT INTO attempt (item_id, epoch, attempt_id, job, item_key, number, verdict, error_code, error_message,
        note, log, host_id, digest, started_at_ms, ended_at_ms, wall_us, memory_bytes_max, run_id,
        cpu_us, host_calls, host_bytes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
        COALESCE(CAST($18 AS TEXT), (SELECT before.run_id FROM attempt AS before
            WHERE before.item_id = $1 AND before.epoch < $2 ORDER BY before.epoch DESC LIMIT 1)),
        $19, $20, $21)",
);

pub const ITEM_ADD: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, run_id, seen_run_id, created_at_ms, updated_at_ms)
    VALUES ($1, $2, $3, $4, 'waiting', $5, $6, $6, $5, $5) ON CONFLICT (job, item_key) DO NOTHING",
);

// Items ($1: [[id, job, key, payload]]) that a person or another job ($3) adds now ($2). Resolved items start
// again; other existing items are not changed.
macro_rules! enqueue {
    ($array:literal) => {
        concat!(
            "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_by, created_at_ms, updated_at_ms)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'waiting', $2, $3, $2, $2 FROM ",
            $array,
            " WHERE true ON CONFLICT (job, item_key) DO UPDATE SET payload = excluded.payload, state = 'waiting',
                attempts = 0, series = item.series + 1, first_attempt_at_ms = NULL, due_at_ms = excluded.due_at_ms,
                created_by = excluded.created_by, updated_at_ms = excluded.updated_at_ms, version = item.version + 1
            WHERE item.state = 'resolved'"
        )
    };
}

pub const ITEMS_ENQUEUE: Sql =
    Sql::differs(enqueue!("json_each($1)"), enqueue!("json_array_elements(CAST($1 AS json))"));

pub const ITEMS_OPEN_COUNT: Sql = Sql::same(
    "SELECT COUNT(*) AS number FROM (SELECT state FROM item WHERE job = $1 AND state IN ('waiting', 'running', 'awaiting')
        LIMIT $2) AS some_items",
);

/// An open item was found again: the payload is refreshed, the backoff is kept.
pub const ITEM_REFRESH: Sql = Sql::same(
    "UPDATE item SET payload = $3, seen_run_id = $4, run_id = COALESCE($5, run_id)
    WHERE id = $1 AND version = $2 AND state || '' IN ('waiting', 'running', 'awaiting')",
);

pub const ITEM_SEEN: Sql = Sql::same("UPDATE item SET seen_run_id = $2 WHERE id = $1");

/// A resolved or exhausted item was found again: it starts a new series. Its attempt count is reset if $6 is
/// 1.
pub const ITEM_REOPEN: Sql = Sql::same(
    "UPDATE item SET state = 'waiting', payload = $3, seen_run_id = $4, run_id = $4, due_at_ms = $5,
        attempts = CASE WHEN $6 = 1 THEN 0 ELSE attempts END, series = series + 1,
        first_attempt_at_ms = CASE WHEN $6 = 1 THEN NULL ELSE first_attempt_at_ms END, exhausted = 0, deferrals = 0,
        updated_at_ms = $5, version = version + 1
    WHERE id = $1 AND version = $2 AND (state = 'resolved' OR (state = 'manual_required' AND exhausted = 1))",
);

/// Resolves items that no discovery saw since this run began; another discovery may have seen an item after
/// this one did. It spares items that a host lost or released (priority 0), and items whose last commit has
/// an unknown result ($4): they may be absent because the attempt committed, but the rest of its outcome is
/// missing. That attempt is repeated first.
pub const ITEMS_RESOLVE_ABSENT: Sql = Sql::same(
    "UPDATE item SET state = 'resolved', note = 'no longer found', updated_at_ms = $3, version = version + 1
    WHERE job = $1 AND state IN ('waiting', 'awaiting') AND priority <> 0 AND COALESCE(error_code, '') <> $4
        AND created_at_ms < (SELECT created_at_ms FROM run WHERE id = $2)
        AND NOT EXISTS (SELECT 1 FROM run AS seer WHERE seer.id = item.seen_run_id
            AND (seer.discovered_at_ms IS NULL OR seer.discovered_at_ms >= (SELECT created_at_ms FROM run WHERE id = $2)))
    RETURNING id, run_id",
);

/// Run after the runs of these items have counted them.
pub const ITEMS_LEAVE_RUN: Sql =
    Sql::same("UPDATE item SET run_id = NULL WHERE job = $1 AND run_id = $2 AND state = 'resolved'");

/// A person's decision, as compare-and-set on the version that the person saw. The reason why an item is left
/// to a person is appended to its error.
pub const ITEM_DECIDE: Sql = Sql::same(
    "UPDATE item SET state = $3, due_at_ms = $4, run_id = NULL, crashes = 0, exhausted = 0,
        note = CASE WHEN $3 = 'manual_required' THEN note ELSE COALESCE($5, note) END,
        error_code = CASE WHEN $3 = 'manual_required' THEN COALESCE(error_code, 'left-to-a-person') ELSE error_code END,
        error_message = CASE WHEN $3 <> 'manual_required' OR CAST($5 AS TEXT) IS NULL THEN error_message
            WHEN error_message IS NULL OR error_message = '' THEN $5 ELSE error_message || '; ' || $5 END,
        resolved_at_ms = CASE WHEN $3 = 'resolved' THEN CAST($4 AS BIGINT) END,
        resolved_by = CASE WHEN $3 = 'resolved' THEN CAST($7 AS TEXT) END,
        attempts = CASE WHEN $6 = 1 THEN 0 ELSE attempts END,
        series = CASE WHEN $6 = 1 THEN series + 1 ELSE series END, deferrals = 0,
        updated_at_ms = $4, version = version + 1
    WHERE id = $1 AND version = $2",
);

/// Takes the first key that is not less than the wanted one: only the index of keys has that order (see
/// [`ITEMS_BY_KEYS`]).
pub const ITEM_GET: Sql = Sql::same(
    "SELECT * FROM (SELECT * FROM item WHERE job = $1 AND item_key >= $2 ORDER BY item_key LIMIT 1) AS found
    WHERE item_key = $2",
);

pub const ITEMS_LIST: Sql = Sql::same(
    "SELECT * FROM item WHERE (CAST($1 AS TEXT) IS NULL OR job = $1) AND (CAST($2 AS TEXT) IS NULL OR state = $2)
        AND (CAST($4 AS BIGINT) IS NULL OR CASE WHEN attempts = 0 THEN 0 ELSE 1 END = $4)
    ORDER BY updated_at_ms DESC, id LIMIT $3",
);

pub const ITEM_COUNTS: Sql = Sql::same(
    "SELECT job, state, CAST(MIN(attempts) AS BIGINT) AS attempts_min, COUNT(*) AS items FROM item
    GROUP BY job, state, CASE WHEN attempts = 0 THEN 0 ELSE 1 END",
);

/// Reads each priority separately: two steps in the index `item_due`, however many items wait. If the planner
/// believes that no item waits, it reads the whole index for a `MIN`, but not for a `LIMIT`.
pub const ITEM_NEXT_DUE: Sql = Sql::same(
    "SELECT CAST(MIN(due_at_ms) AS BIGINT) AS due_at_ms FROM (
        SELECT due_at_ms FROM (SELECT due_at_ms FROM item
            WHERE job = $1 AND priority = 0 AND state IN ('waiting', 'awaiting') ORDER BY due_at_ms LIMIT 1) AS ahead
        UNION ALL SELECT due_at_ms FROM (SELECT due_at_ms FROM item
            WHERE job = $1 AND priority = 1 AND state IN ('waiting', 'awaiting') ORDER BY due_at_ms LIMIT 1) AS new) AS first",
);

pub const ATTEMPTS_OF_ITEM: Sql =
    Sql::same("SELECT * FROM attempt WHERE job = $1 AND item_key = $2 ORDER BY epoch DESC LIMIT $3");

/// Attempts that ended on their own, the newest first, with data of the item's row and of the attempt before.
pub const ATTEMPTS_TO_REPLAY: Sql = Sql::same(
    "SELECT a.item_id, a.job, a.item_key, a.number, a.epoch, a.attempt_id, a.run_id, a.verdict, a.note, a.digest,
        a.error_code AS recorded_code, a.error_message AS recorded_message, a.started_at_ms, a.ended_at_ms,
        a.wall_us, a.cpu_us, a.memory_bytes_max, a.host_calls, a.host_bytes,
        i.payload, i.series, i.first_attempt_at_ms, i.batch_id, i.batch_index, i.operation, i.created_by, i.max_attempts,
        b.started_at_ms AS last_attempt_at_ms, b.error_code, b.error_message
    FROM attempt AS a JOIN item AS i ON i.id = a.item_id
    LEFT JOIN attempt AS b ON b.item_id = a.item_id
        AND b.epoch = (SELECT MAX(e.epoch) FROM attempt AS e WHERE e.item_id = a.item_id AND e.epoch < a.epoch)
    WHERE a.job = $1 AND a.verdict NOT IN ('lost', 'interrupted', 'host-failed')
    ORDER BY a.ended_at_ms DESC, a.item_id, a.epoch DESC LIMIT $2",
);
