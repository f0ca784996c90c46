//! Statements that move records of a clock that was ahead back to the present.

use crate::db::sql::Sql;

pub const LATEST_HEARTBEAT: Sql =
    Sql::same("SELECT CAST(MAX(heartbeat_at_ms) AS BIGINT) AS latest_ms FROM host");

/// Moves a job whose position in its schedule is after the schedule's time (`:seen`). The position of a new
/// job is its registration time, and the schedule's time of a job with jitter is earlier than the present. So
/// such a position counts only if it is after the present (`:after_now`).
pub const JOB_REWIND: Sql = Sql::same(
    "UPDATE job SET ticked_at_ms = :seen WHERE name = :job AND ticked_at_ms > :after_seen
        AND (ticked_at_ms > :after_now OR EXISTS (SELECT 1 FROM tick WHERE tick.job = job.name AND tick.at_ms = job.ticked_at_ms))",
);
/// Instants of a job that were decided before they were due and did not run. They can be decided again.
pub const TICKS_REWIND: Sql = Sql::same(
    "UPDATE tick SET fate = CASE WHEN fate = 'buffered' THEN 'missed' ELSE fate END, decided_at_ms = :seen
    WHERE job = :job AND at_ms > :seen AND run_id IS NULL",
);

/// Statements that take the present (`:now`) and change rows with later times.
pub const CORRECTIONS: [Sql; 15] = [
    DUE,
    ITEMS,
    CLAIMS,
    Sql::same(
        "UPDATE run SET created_at_ms = CASE WHEN created_at_ms > :now THEN :now ELSE created_at_ms END,
            discovered_at_ms = CASE WHEN discovered_at_ms > :now THEN :now ELSE discovered_at_ms END,
            finished_at_ms = CASE WHEN finished_at_ms > :now THEN :now ELSE finished_at_ms END
        WHERE created_at_ms > :now OR discovered_at_ms > :now OR finished_at_ms > :now",
    ),
    Sql::same("UPDATE tick SET decided_at_ms = :now WHERE decided_at_ms > :now AND fate = 'paused'"),
    Sql::same("UPDATE job SET created_at_ms = :now WHERE created_at_ms > :now"),
    KEYS,
    LOCKS,
    Sql::same("UPDATE event SET created_at_ms = :now WHERE created_at_ms > :now AND delivered_at_ms IS NULL"),
    Sql::same("UPDATE event SET delivered_at_ms = :now WHERE delivered_at_ms > :now"),
    Sql::same(
        "UPDATE alert SET first_at_ms = CASE WHEN first_at_ms > :now THEN :now ELSE first_at_ms END,
            last_at_ms = CASE WHEN last_at_ms > :now THEN :now ELSE last_at_ms END
        WHERE first_at_ms > :now OR last_at_ms > :now",
    ),
    Sql::same("UPDATE alert SET acknowledged_at_ms = :now WHERE acknowledged_at_ms > :now"),
    Sql::same("UPDATE plugin_release SET stage_since_ms = :now WHERE stage_since_ms > :now"),
    Sql::same("UPDATE plugin_version SET released_at_ms = :now WHERE released_at_ms > :now"),
    // Last, so that all statements are repeated in the next round until this one succeeds.
    Sql::same(
        "UPDATE host SET heartbeat_at_ms = CASE WHEN heartbeat_at_ms > :now THEN :now ELSE heartbeat_at_ms END,
            started_at_ms = CASE WHEN started_at_ms > :now THEN :now ELSE started_at_ms END,
            stopped_at_ms = CASE WHEN stopped_at_ms > :now THEN :now ELSE stopped_at_ms END
        WHERE heartbeat_at_ms > :now OR started_at_ms > :now OR stopped_at_ms > :now",
    ),
];

/// Before the items, because the key of an item in `due` contains its due time.
const DUE: Sql = Sql::same(
    "UPDATE due SET due_at_ms = CASE WHEN due.due_at_ms > item.updated_at_ms
            THEN :now + due.due_at_ms - item.updated_at_ms
            WHEN due.due_at_ms > :now THEN :now ELSE due.due_at_ms END
    FROM item WHERE item.id = due.item_id AND item.updated_at_ms > :now",
);
const CLAIMS: Sql = Sql::same("UPDATE claim SET claimed_at_ms = :now WHERE claimed_at_ms > :now");
/// An open item keeps the length of its wait, counted from now.
const ITEMS: Sql = Sql::same(
    "UPDATE item SET due_at_ms = CASE WHEN due_at_ms > updated_at_ms THEN :now + due_at_ms - updated_at_ms
            WHEN due_at_ms > :now THEN :now ELSE due_at_ms END,
        first_attempt_at_ms = CASE WHEN first_attempt_at_ms > :now THEN :now ELSE first_attempt_at_ms END,
        last_attempt_at_ms = CASE WHEN last_attempt_at_ms > :now THEN :now ELSE last_attempt_at_ms END,
        resolved_at_ms = CASE WHEN resolved_at_ms > :now THEN :now ELSE resolved_at_ms END,
        created_at_ms = CASE WHEN created_at_ms > :now THEN :now ELSE created_at_ms END,
        updated_at_ms = :now
    WHERE updated_at_ms > :now",
);
/// A key keeps its time to live, counted from now.
const KEYS: Sql = Sql::same(
    "UPDATE kv SET expires_at_ms = :now + expires_at_ms - updated_at_ms, updated_at_ms = :now WHERE updated_at_ms > :now",
);
const LOCKS: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = :now + until_ms - taken_at_ms, taken_at_ms = :now WHERE taken_at_ms > :now",
);

/// Renewed locks: none lasts beyond `:latest`.
pub const LOCKS_BOUND: Sql = Sql::same("UPDATE named_lock SET until_ms = :latest WHERE until_ms > :latest");
/// Claimed events and events that wait for another try: none waits beyond `:latest`.
pub const EVENTS_BOUND: Sql = Sql::same(
    "UPDATE event SET due_at_ms = :latest WHERE due_at_ms > :latest AND delivered_at_ms IS NULL AND dead_at_ms IS NULL",
);
/// Leases: none lasts beyond `:latest`.
pub const CLAIMS_BOUND: Sql =
    Sql::same("UPDATE claim SET lease_until_ms = :latest WHERE lease_until_ms > :latest");
pub const RUNS_BOUND: Sql = Sql::same(
    "UPDATE run SET lease_until_ms = :latest WHERE state = 'discovering' AND lease_until_ms > :latest",
);
