//! Statements on runs.

use crate::db::sql::{Sql, locking, postgres, sqlite};

pub const RUN_ADD: Sql = Sql::same(
    "INSERT INTO run (id, job, started_by, state, created_at_ms, scheduled_at_ms, params)
    VALUES (:run, :job, :by, 'discovering', :now, :at, :params)",
);
pub const RUN_OPEN_OF: Sql =
    Sql::same("SELECT id FROM run WHERE job = :job AND state IN ('discovering', 'running') LIMIT 1");
pub const RUN_CLAIM: Sql = Sql::differs(sqlite::RUN_CLAIM, postgres::RUN_CLAIM);
/// Jobs with a run that [`RUN_CLAIM`] can claim.
pub const RUN_JOBS: Sql = Sql::differs(
    "SELECT DISTINCT job FROM run INDEXED BY run_open WHERE state IN ('discovering', 'running')
        AND state = 'discovering' AND (lease_until_ms IS NULL OR lease_until_ms < :before)",
    "SELECT DISTINCT job FROM run WHERE state IN ('discovering', 'running')
        AND state = 'discovering' AND (lease_until_ms IS NULL OR lease_until_ms < :before)",
);
pub const RUNS_RENEW: Sql = Sql::differs(sqlite::RUNS_RENEW, postgres::RUNS_RENEW);
/// Stores a page of a discovery, fenced; its items are in the same transaction.
pub const RUN_PAGE: Sql = Sql::same(
    "UPDATE run SET page_cursor = :cursor, found = found + :found, queued = queued + :queued, waiting = waiting + :waiting,
        over_cap = over_cap + :over_cap, manual = manual + :manual, crashes = 0, digest = :digest,
        error_code = COALESCE(:code, error_code), error_message = COALESCE(:message, error_message)
    WHERE id = :run AND state || '' = 'discovering' AND epoch = :epoch AND claim_id = :claim",
);
pub const RUN_QUEUED: Sql = Sql::same("SELECT queued, page_cursor, created_at_ms FROM run WHERE id = :run");
/// Ends a discovery, fenced. The run has failed if items of a page were refused, and is finished if no item
/// is left to attempt.
pub const RUN_DISCOVERED: Sql = Sql::same(
    "UPDATE run SET state = CASE WHEN error_code IS NOT NULL THEN 'failed' WHEN done >= queued THEN 'finished'
            ELSE 'running' END, absent = :absent, discovered_at_ms = :now,
        finished_at_ms = CASE WHEN error_code IS NOT NULL OR done >= queued THEN :now ELSE NULL END,
        claim_id = NULL, lease_until_ms = NULL
    WHERE id = :run AND state || '' = 'discovering' AND epoch = :epoch AND claim_id = :claim
    RETURNING id, job, error_code, CASE WHEN state = 'finished' THEN 1 ELSE 0 END AS now_finished",
);
pub const RUN_FAILED: Sql = Sql::same(
    "UPDATE run SET state = 'failed', error_code = :code, error_message = :message, discovered_at_ms = :now,
        finished_at_ms = :now, claim_id = NULL, lease_until_ms = NULL
    WHERE id = :run AND state || '' = 'discovering' AND epoch = :epoch AND claim_id = :claim",
);
/// Releases a discovery at a shutdown: another host, or the next start, continues at its cursor.
pub const RUN_RELEASE: Sql = Sql::same(
    "UPDATE run SET claim_id = NULL, lease_until_ms = NULL, host_id = NULL, crashes = crashes - 1
    WHERE id = :run AND state || '' = 'discovering' AND epoch = :epoch AND claim_id = :claim",
);
pub const RUNS_RELEASE_HOST: Sql = Sql::same(
    "UPDATE run SET claim_id = NULL, lease_until_ms = NULL, host_id = NULL
    WHERE host_id = :host AND state = 'discovering' AND claim_id IS NOT NULL",
);
/// A newer run replaces them: their discovery ends, even if a host holds it.
pub const RUNS_CANCEL: Sql = Sql::same(
    "UPDATE run SET state = 'failed', error_code = 'cancelled', error_message = 'a newer run took its place',
        discovered_at_ms = COALESCE(discovered_at_ms, :now), finished_at_ms = :now, claim_id = NULL, lease_until_ms = NULL
    WHERE job = :job AND state IN ('discovering', 'running') RETURNING id, job, 1 AS now_finished",
);
/// Counts ended first attempts; the last one finishes the run.
pub const RUN_DONE: Sql = Sql::same(
    "UPDATE run SET done = done + :attempts, failed = failed + :failed,
        finished_at_ms = CASE WHEN state = 'running' AND done + :attempts >= queued THEN :ended_at ELSE finished_at_ms END,
        state = CASE WHEN state = 'running' AND done + :attempts >= queued THEN 'finished' ELSE state END
    WHERE id = :run
    RETURNING id, job, CASE WHEN state = 'finished' AND finished_at_ms = :ended_at THEN 1 ELSE 0 END AS now_finished",
);
/// On Postgres, locks runs in the order of their ids, after their items.
pub const RUNS_LOCK: Sql = locking!(
    "SELECT run.id FROM @runs(id uuid) @join(run ON run.id = runs.id) ORDER BY run.id",
    " FOR UPDATE OF run"
);
pub const RUN_GET: Sql = Sql::same("SELECT * FROM run WHERE id = :run");
pub const RUNS_LIST: Sql = Sql::same(
    "SELECT * FROM run WHERE (CAST(:job AS TEXT) IS NULL OR job = :job) ORDER BY created_at_ms DESC, id DESC LIMIT :limit",
);

// Known items, with whether a run that is still open waits for their first attempt.
macro_rules! known {
    ($rest:literal) => {
        concat!(
            "SELECT item.id, item.item_key, item.payload, item.state, item.due_at_ms, item.priority, item.attempts,
                item.last_attempt_at_ms, item.exhausted, CASE WHEN EXISTS (SELECT 1 FROM run WHERE run.id = item.run_id
                    AND run.state || '' IN ('discovering', 'running')) THEN 1 ELSE 0 END AS queued ",
            $rest
        )
    };
}

// The result of each item that a run queued and attempted, by its last attempt in that run. If that
// attempt left the item open, by the item's present state (no longer found, decided by a person, attempted
// for a later run). `poison` means that the item was lost too often.
macro_rules! fates {
    ($rest:literal) => {
        concat!(
            "WITH fates AS (SELECT attempt.item_id, item.item_key, attempt.number, attempt.error_code,
                attempt.error_message, attempt.ended_at_ms, item.payload,
                CASE WHEN verdict = 'resolved' THEN 'success'
                    WHEN verdict IN ('permanent', 'exhausted') THEN 'failed'
                    WHEN verdict = 'lost' AND attempt.error_code = 'poison' THEN 'failed'
                    WHEN item.state = 'resolved' THEN 'success'
                    WHEN item.state IN ('manual_required', 'abandoned') THEN 'failed'
                    ELSE 'open' END AS fate
            FROM attempt JOIN item ON item.id = attempt.item_id
            WHERE attempt.run_id = :run AND NOT EXISTS (SELECT 1 FROM attempt AS later
                WHERE later.run_id = :run AND later.item_id = attempt.item_id AND later.epoch > attempt.epoch)) ",
            $rest
        )
    };
}

pub const RUN_RESULT: Sql = Sql::same(fates!(
    "SELECT queued, done, (SELECT COUNT(*) FROM fates WHERE fate = 'success') AS success,
        (SELECT COUNT(*) FROM fates WHERE fate = 'failed') AS failed FROM run WHERE id = :run"
));
pub const RUN_LAST_ENDED: Sql = Sql::same(fates!(
    "SELECT item_key, fate, ended_at_ms FROM fates WHERE fate <> 'open'
    ORDER BY ended_at_ms DESC, item_id DESC LIMIT 1"
));
pub const RUN_FAILURES: Sql = Sql::same(fates!(
    "SELECT item_key, number, error_code, error_message, payload FROM fates WHERE fate = 'failed'
    ORDER BY ended_at_ms, item_id LIMIT :limit"
));

/// Known items of a page. Postgres takes the first key that is not less than the wanted one, because only the index
/// of keys has that order; for an equal key, the planner may search all items of the job.
pub const ITEMS_BY_KEYS: Sql = Sql::differs(
    known!(
        "FROM item
    WHERE item.job = :job AND item.item_key IN (SELECT item_key FROM @found(item_key text))"
    ),
    known!(
        "FROM @found(item_key text)
    CROSS JOIN LATERAL (SELECT * FROM item WHERE item.job = :job AND item.item_key >= found.item_key
        ORDER BY item.item_key LIMIT 1) AS item
    WHERE item.item_key = found.item_key"
    ),
);
/// The same items, locked in the order of their ids before they change.
pub const ITEMS_FOUND_LOCK: Sql = locking!(
    "SELECT item.id FROM @found(id uuid) @join(item ON item.id = found.id) ORDER BY item.id",
    " FOR UPDATE OF item"
);
pub const ITEMS_BY_IDS: Sql = Sql::same(known!("FROM @found(id uuid) @join(item ON item.id = found.id)"));
/// Items in `due` at these keys, locked. One that is missing is running, or is being claimed.
pub const DUE_LOCK: Sql = locking!(
    "SELECT due.item_id FROM @queued(job text, priority bigint, due_at_ms bigint, item_id uuid)
    @join(due ON due.job = queued.job AND due.priority = queued.priority AND due.due_at_ms = queued.due_at_ms
        AND due.item_id = queued.item_id)",
    " FOR UPDATE OF due SKIP LOCKED"
);

/// An open item was found again: the payload is refreshed, the backoff is kept.
pub const ITEMS_REFRESH: Sql = Sql::same(
    "UPDATE item SET payload = refreshed.payload, seen_run_id = :run,
        run_id = CASE WHEN refreshed.queue = 1 THEN :run ELSE item.run_id END
    FROM @refreshed(id uuid, payload text, queue bigint) @target(item ON item.id = refreshed.id)",
);
/// A resolved or exhausted item was found again: it starts a new series.
pub const ITEMS_FOUND_AGAIN: Sql = Sql::same(
    "UPDATE item SET state = 'scheduled', payload = reopened.payload, seen_run_id = :run, run_id = :run,
        due_at_ms = :now, priority = 1, attempts = CASE WHEN reopened.forgets = 1 THEN 0 ELSE item.attempts END,
        series = item.series + 1, first_attempt_at_ms = CASE WHEN reopened.forgets = 1 THEN NULL
            ELSE item.first_attempt_at_ms END,
        exhausted = 0, deferrals = 0, updated_at_ms = :now, version = item.version + 1
    FROM @reopened(id uuid, payload text, forgets bigint) @target(item ON item.id = reopened.id)",
);
pub const ITEMS_NEW: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, run_id, seen_run_id, created_at_ms, updated_at_ms)
    SELECT id, :job, item_key, payload, 'scheduled', :now, :run, :run, :now, :now
    FROM @added(id uuid, item_key text, payload text) WHERE true
    ON CONFLICT (job, item_key) DO NOTHING RETURNING id",
);

/// Due items that no discovery saw since this run began; another discovery may have seen an item after this one
/// did. It spares items that a host lost or released (priority 0), and items whose last commit has an unknown result
/// (:sql_commit): they may be absent because the attempt committed, but the rest of its outcome is missing. That
/// attempt is repeated first. On Postgres, an item that is being changed is left to the next run.
pub const ITEMS_ABSENT: Sql = locking!(
    "SELECT item.id, item.state, item.attempts, item.priority, item.due_at_ms, item.run_id
    FROM due JOIN item ON item.id = due.item_id
    WHERE due.job = :job AND due.priority = 1 AND COALESCE(item.error_code, '') <> :sql_commit
        AND item.created_at_ms < :began
        AND NOT EXISTS (SELECT 1 FROM run AS seer WHERE seer.id = item.seen_run_id
            AND (seer.discovered_at_ms IS NULL OR seer.discovered_at_ms >= :began))
    ORDER BY item.id",
    " FOR UPDATE OF item SKIP LOCKED"
);
pub const ITEMS_RESOLVE_ABSENT: Sql = Sql::same(
    "UPDATE item SET state = 'resolved', note = 'no longer found', run_id = NULL, updated_at_ms = :now,
        version = item.version + 1
    FROM @absent(id uuid) @target(item ON item.id = absent.id)",
);
