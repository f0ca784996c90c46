//! Statements that move records of a clock that was ahead back to the present.

use crate::db::sql::Sql;

pub const LATEST_HEARTBEAT: Sql =
    Sql::same("SELECT CAST(MAX(heartbeat_at_ms) AS BIGINT) AS latest_ms FROM host");

/// Moves a job ($1) whose position in its schedule is after the schedule's time ($2). The position of a new
/// job is its registration time, and the schedule's time of a job with jitter is earlier than the present. So
/// such a position counts only if it is after the present ($4).
pub const JOB_REWIND: Sql = Sql::same(
    "UPDATE job SET ticked_at_ms = $2 WHERE name = $1 AND ticked_at_ms > $3
        AND (ticked_at_ms > $4 OR EXISTS (SELECT 1 FROM tick WHERE tick.job = job.name AND tick.at_ms = job.ticked_at_ms))",
);
/// Instants of a job ($1) that were decided before they were due ($2) and did not run. They can be decided
/// again.
pub const TICKS_REWIND: Sql = Sql::same(
    "UPDATE tick SET fate = CASE WHEN fate = 'buffered' THEN 'missed' ELSE fate END, decided_at_ms = $2
    WHERE job = $1 AND at_ms > $2 AND run_id IS NULL",
);

/// Statements that take the present ($1) and change rows with later times.
pub const CORRECTIONS: [Sql; 15] = [
    DUE,
    ITEMS,
    CLAIMS,
    Sql::same(
        "UPDATE run SET created_at_ms = CASE WHEN created_at_ms > $1 THEN $1 ELSE created_at_ms END,
            discovered_at_ms = CASE WHEN discovered_at_ms > $1 THEN $1 ELSE discovered_at_ms END,
            finished_at_ms = CASE WHEN finished_at_ms > $1 THEN $1 ELSE finished_at_ms END
        WHERE created_at_ms > $1 OR discovered_at_ms > $1 OR finished_at_ms > $1",
    ),
    Sql::same("UPDATE tick SET decided_at_ms = $1 WHERE decided_at_ms > $1 AND fate = 'paused'"),
    Sql::same("UPDATE job SET created_at_ms = $1 WHERE created_at_ms > $1"),
    KEYS,
    LOCKS,
    Sql::same("UPDATE event SET created_at_ms = $1 WHERE created_at_ms > $1 AND delivered_at_ms IS NULL"),
    Sql::same("UPDATE event SET delivered_at_ms = $1 WHERE delivered_at_ms > $1"),
    Sql::same(
        "UPDATE alert SET first_at_ms = CASE WHEN first_at_ms > $1 THEN $1 ELSE first_at_ms END,
            last_at_ms = CASE WHEN last_at_ms > $1 THEN $1 ELSE last_at_ms END
        WHERE first_at_ms > $1 OR last_at_ms > $1",
    ),
    Sql::same("UPDATE alert SET acknowledged_at_ms = $1 WHERE acknowledged_at_ms > $1"),
    Sql::same("UPDATE plugin_release SET stage_since_ms = $1 WHERE stage_since_ms > $1"),
    Sql::same("UPDATE plugin_version SET released_at_ms = $1 WHERE released_at_ms > $1"),
    // Last, so that all statements are repeated in the next round until this one succeeds.
    Sql::same(
        "UPDATE host SET heartbeat_at_ms = CASE WHEN heartbeat_at_ms > $1 THEN $1 ELSE heartbeat_at_ms END,
            started_at_ms = CASE WHEN started_at_ms > $1 THEN $1 ELSE started_at_ms END,
            stopped_at_ms = CASE WHEN stopped_at_ms > $1 THEN $1 ELSE stopped_at_ms END
        WHERE heartbeat_at_ms > $1 OR started_at_ms > $1 OR stopped_at_ms > $1",
    ),
];

/// Before the items, because the key of an item in `due` contains its due time.
const DUE: Sql = Sql::same(
    "UPDATE due SET due_at_ms = CASE WHEN due.due_at_ms > item.updated_at_ms
            THEN $1 + due.due_at_ms - item.updated_at_ms
            WHEN due.due_at_ms > $1 THEN $1 ELSE due.due_at_ms END
    FROM item WHERE item.id = due.item_id AND item.updated_at_ms > $1",
);
const CLAIMS: Sql = Sql::same("UPDATE claim SET claimed_at_ms = $1 WHERE claimed_at_ms > $1");
/// An open item keeps the length of its wait, counted from now.
const ITEMS: Sql = Sql::same(
    "UPDATE item SET due_at_ms = CASE WHEN due_at_ms > updated_at_ms THEN $1 + due_at_ms - updated_at_ms
            WHEN due_at_ms > $1 THEN $1 ELSE due_at_ms END,
        first_attempt_at_ms = CASE WHEN first_attempt_at_ms > $1 THEN $1 ELSE first_attempt_at_ms END,
        last_attempt_at_ms = CASE WHEN last_attempt_at_ms > $1 THEN $1 ELSE last_attempt_at_ms END,
        resolved_at_ms = CASE WHEN resolved_at_ms > $1 THEN $1 ELSE resolved_at_ms END,
        created_at_ms = CASE WHEN created_at_ms > $1 THEN $1 ELSE created_at_ms END,
        updated_at_ms = $1
    WHERE updated_at_ms > $1",
);
/// A key keeps its time to live, counted from now.
const KEYS: Sql = Sql::same(
    "UPDATE kv SET expires_at_ms = $1 + expires_at_ms - updated_at_ms, updated_at_ms = $1 WHERE updated_at_ms > $1",
);
const LOCKS: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = $1 + until_ms - taken_at_ms, taken_at_ms = $1 WHERE taken_at_ms > $1",
);

/// Renewed locks: none lasts beyond $1.
pub const LOCKS_BOUND: Sql = Sql::same("UPDATE named_lock SET until_ms = $1 WHERE until_ms > $1");
/// Claimed events and events that wait for another try: none waits beyond $1.
pub const EVENTS_BOUND: Sql = Sql::same(
    "UPDATE event SET due_at_ms = $1 WHERE due_at_ms > $1 AND delivered_at_ms IS NULL AND dead_at_ms IS NULL",
);
/// Leases: none lasts beyond $1.
pub const CLAIMS_BOUND: Sql = Sql::same("UPDATE claim SET lease_until_ms = $1 WHERE lease_until_ms > $1");
pub const RUNS_BOUND: Sql =
    Sql::same("UPDATE run SET lease_until_ms = $1 WHERE state = 'discovering' AND lease_until_ms > $1");
