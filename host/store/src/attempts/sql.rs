//! Statements on ended attempts.

use crate::db::sql::Sql;

macro_rules! items_end {
    () => {
        "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, state = ended.state, due_at_ms = ended.due_at_ms,
        attempts = ended.attempts, deferrals = ended.deferrals, series = ended.series, exhausted = ended.exhausted,
        note = ended.note, error_code = ended.error_code, error_message = ended.error_message,
        first_attempt_at_ms = ended.first_attempt_at_ms,
        last_attempt_at_ms = COALESCE(ended.last_attempt_at_ms, item.last_attempt_at_ms),
        resolved_at_ms = CASE WHEN ended.state = 'resolved' THEN ended.ended_at_ms END, resolved_by = NULL,
        crashes = 0, priority = 1, run_id = NULL, updated_at_ms = ended.ended_at_ms
    FROM @ended(id uuid, epoch bigint, state text, due_at_ms bigint, attempts bigint, deferrals bigint, series bigint,
        exhausted bigint, note text, error_code text, error_message text, first_attempt_at_ms bigint,
        last_attempt_at_ms bigint, ended_at_ms bigint)"
    };
}

/// Ends attempts, fenced by the epoch. Their claims and items are locked.
pub const ITEMS_END: Sql =
    Sql::same(concat!(items_end!(), " @target(item ON item.id = ended.id) AND item.epoch = ended.epoch"));

/// Ends attempts whose items are not locked yet, and counts them by what their items were. It waits for a transaction
/// that is changing an item, and leaves the item out if that is committed: then the sum is too low. Only for Postgres:
/// SQLite returns no former values.
///
/// The former values are compared again because Postgres before 15.15 does not repeat the comparison of `ctid` after it
/// has waited.
pub const ITEMS_END_AT_ONCE: Sql = Sql::differs(
    concat!(items_end!(), " @target(item ON item.id = ended.id) AND item.epoch = ended.epoch"),
    concat!(
        "WITH done AS (",
        items_end!(),
        " CROSS JOIN LATERAL (SELECT item.ctid AS place, item.job, item.state, item.attempts, item.run_id
                FROM item WHERE item.id = ended.id OFFSET 0) AS before
            WHERE item.ctid = before.place AND item.epoch = ended.epoch AND item.state = before.state
                AND item.attempts = before.attempts AND item.run_id IS NOT DISTINCT FROM before.run_id
            RETURNING before.job, before.state, before.attempts, before.run_id,
                ended.error_code IS NOT NULL AS failed, ended.ended_at_ms)
        SELECT job, state, attempts, run_id, COUNT(*) AS ends, COUNT(*) FILTER (WHERE failed) AS failed,
            MAX(ended_at_ms) AS last_at_ms
        FROM done GROUP BY job, state, attempts, run_id"
    ),
);

/// Releases items at a shutdown or after a failure of the host. An item is due again before new items, as if it had
/// not been claimed. Only a failure leaves an error.
pub const ITEMS_RELEASE: Sql = Sql::same(
    "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, state = 'scheduled',
        due_at_ms = released.due_at_ms, priority = 0, error_code = COALESCE(released.error_code, item.error_code),
        error_message = COALESCE(released.error_message, item.error_message), updated_at_ms = released.ended_at_ms
    FROM @released(id uuid, epoch bigint, due_at_ms bigint, error_code text, error_message text, ended_at_ms bigint)
    @target(item ON item.id = released.id) AND item.epoch = released.epoch",
);

/// An attempt belongs to the run that queued its item. A later attempt has no run of its own and belongs to the
/// run of the attempt before it.
pub const ATTEMPTS_ADD: Sql = Sql::same(
    "INSERT INTO attempt (item_id, epoch, claim_id, job, number, verdict, error_code, error_message, note, log, host_id,
        digest, started_at_ms, ended_at_ms, wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes, run_id)
    SELECT ended.item_id, ended.epoch, ended.claim_id, ended.job, ended.number, ended.verdict, ended.error_code,
        ended.error_message, ended.note, ended.log, ended.host_id, ended.digest, ended.started_at_ms, ended.ended_at_ms,
        ended.wall_us, ended.cpu_us, ended.memory_bytes_max, ended.host_calls, ended.host_bytes,
        COALESCE(ended.run_id, (SELECT before.run_id FROM attempt AS before
            WHERE before.item_id = ended.item_id AND before.epoch < ended.epoch ORDER BY before.epoch DESC LIMIT 1))
    FROM @ended(item_id uuid, epoch bigint, claim_id uuid, job text, number bigint, verdict text, error_code text,
        error_message text, note text, log text, host_id uuid, digest bytea, started_at_ms bigint, ended_at_ms bigint,
        wall_us bigint, cpu_us bigint, memory_bytes_max bigint, host_calls bigint, host_bytes bigint, run_id uuid)",
);

/// Ends that an earlier commit wrote, whose result was lost.
pub const ATTEMPTS_KNOWN: Sql = Sql::same(
    "SELECT attempt.item_id, attempt.epoch FROM @asked(item_id uuid, epoch bigint, claim_id uuid)
    @join(attempt ON attempt.item_id = asked.item_id AND attempt.epoch = asked.epoch)
    WHERE attempt.claim_id = asked.claim_id AND attempt.verdict <> 'lost'",
);

/// Attempts that ended on their own, the newest first, with data of the item's row and of the attempt before.
pub const ATTEMPTS_TO_REPLAY: Sql = Sql::same(
    "SELECT a.item_id, a.job, i.item_key, a.number, a.epoch, a.claim_id, a.run_id, a.verdict, a.note, a.digest,
        a.error_code AS recorded_code, a.error_message AS recorded_message, a.started_at_ms, a.ended_at_ms,
        a.wall_us, a.cpu_us, a.memory_bytes_max, a.host_calls, a.host_bytes,
        i.payload, i.series, i.first_attempt_at_ms, i.batch_id, i.batch_index, i.operation, i.created_by, i.max_attempts,
        b.started_at_ms AS last_attempt_at_ms, b.error_code, b.error_message
    FROM attempt AS a JOIN item AS i ON i.id = a.item_id
    LEFT JOIN attempt AS b ON b.item_id = a.item_id
        AND b.epoch = (SELECT MAX(e.epoch) FROM attempt AS e WHERE e.item_id = a.item_id AND e.epoch < a.epoch)
    WHERE a.job = :job AND a.verdict NOT IN ('lost', 'interrupted', 'host-failed')
    ORDER BY a.ended_at_ms DESC, a.item_id, a.epoch DESC LIMIT :limit",
);
