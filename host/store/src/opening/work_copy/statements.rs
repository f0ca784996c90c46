//! The statements of the copy. Postgres stores ids as UUIDs and digests as bytes, and its casts refuse other
//! texts. SQLite stores the texts, so statements of their own look for bad ones.

use crate::db::sql::Sql;

pub const MIGRATIONS_TABLE: Sql = Sql::differs(
    "SELECT 1 AS n FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    "SELECT 1 AS n WHERE to_regclass('tidemill._sqlx_migrations') IS NOT NULL",
);
pub const MIGRATION: Sql = Sql::same("SELECT version AS n FROM _sqlx_migrations WHERE version = :version");

pub const WORK_COPY_TABLE: Sql = Sql::differs(
    "SELECT 1 AS n FROM sqlite_schema WHERE type = 'table' AND name = 'work_copy'",
    "SELECT 1 AS n WHERE to_regclass('tidemill.work_copy') IS NOT NULL",
);
/// The lock on the row lets only one copier at a time continue, also without the advisory lock.
pub const CURSOR: Sql = Sql::differs(
    "SELECT step, item_id, epoch, items, attempts, items_total, attempts_total FROM work_copy",
    "SELECT step, item_id, epoch, items, attempts, items_total, attempts_total FROM work_copy FOR UPDATE",
);
pub const COPIED: Sql =
    Sql::same("SELECT items + attempts AS n, items_total + attempts_total AS total FROM work_copy");
pub const STEP_DONE: Sql = Sql::same("UPDATE work_copy SET step = step + 1, item_id = '', epoch = 0");
pub const MOVED: Sql = Sql::same(
    "UPDATE work_copy SET item_id = :item, epoch = :epoch, items = items + :items, attempts = attempts + :attempts",
);

/// The columns of an old item, with the casts of one database.
macro_rules! items_from {
    ($id:literal, $run:literal, $seen:literal, $which:expr) => {
        concat!(
            "INSERT INTO item (id, run_id, seen_run_id, epoch, version, due_at_ms, first_attempt_at_ms, last_attempt_at_ms,
    resolved_at_ms, created_at_ms, updated_at_ms, attempts, deferrals, crashes, series, batch_index, max_attempts, priority,
    exhausted, job, item_key, state, payload, note, error_code, error_message, resolved_by, batch_id, operation, created_by)
SELECT ", $id, ", ", $run, ", ", $seen, ", CASE WHEN state = 'running' THEN epoch ELSE epoch + 1 END, version, due_at_ms,
    first_attempt_at_ms, last_attempt_at_ms, resolved_at_ms, created_at_ms, updated_at_ms, attempts, deferrals,
    CASE WHEN state = 'running' THEN crashes - 1 ELSE crashes END, series, batch_index, max_attempts, priority, exhausted,
    job, item_key, CASE WHEN state IN ('waiting', 'running') THEN 'scheduled' ELSE state END, payload, note, error_code,
    error_message, resolved_by, batch_id, operation, created_by
FROM ",
            $which
        )
    };
}

/// The old items of one portion, chosen before any is converted; or those before the cursor whose ids were
/// corrected meanwhile.
macro_rules! items {
    (next) => {
        "(SELECT * FROM old_item WHERE id > :item ORDER BY id LIMIT :most) AS portion"
    };
    (missing, $id:literal) => {
        concat!("old_item WHERE NOT EXISTS (SELECT 1 FROM item WHERE item.id = ", $id, ")")
    };
}

pub const ITEMS: Sql = Sql::differs(
    items_from!("id", "run_id", "seen_run_id", items!(next)),
    items_from!("CAST(id AS UUID)", "CAST(run_id AS UUID)", "CAST(seen_run_id AS UUID)", items!(next)),
);
pub const MISSING_ITEMS: Sql = Sql::differs(
    items_from!("id", "run_id", "seen_run_id", items!(missing, "old_item.id")),
    items_from!(
        "CAST(id AS UUID)",
        "CAST(run_id AS UUID)",
        "CAST(seen_run_id AS UUID)",
        items!(missing, "CAST(old_item.id AS UUID)")
    ),
);
pub const OLD_ITEMS: Sql = Sql::same("SELECT COUNT(*) AS n FROM old_item");
/// The row of a portion after `:skip` others.
pub const ITEM: Sql = Sql::same(
    "SELECT id AS item_id, CAST(0 AS BIGINT) AS epoch FROM old_item WHERE id > :item ORDER BY id LIMIT 1 OFFSET :skip",
);

/// The columns of an old attempt, with the casts of one database.
macro_rules! attempts_from {
    ($item:literal, $claim:literal, $run:literal, $host:literal, $digest:literal, $which:expr) => {
        concat!(
            "INSERT INTO attempt (item_id, claim_id, run_id, host_id, digest, epoch, started_at_ms, ended_at_ms, wall_us, cpu_us,
    memory_bytes_max, host_calls, host_bytes, number, job, verdict, error_code, error_message, note, log)
SELECT ", $item, ", ", $claim, ", ", $run, ", ", $host, ", ", $digest, ", epoch, started_at_ms, ended_at_ms, wall_us, cpu_us,
    memory_bytes_max, host_calls, host_bytes, number, job, verdict, error_code, error_message, note, log
FROM ",
            $which
        )
    };
}

macro_rules! attempts {
    (next) => {
        "(SELECT * FROM old_attempt WHERE (item_id, epoch) > (:item, :epoch) ORDER BY item_id, epoch LIMIT :most) AS portion"
    };
    (missing, $id:literal) => {
        concat!(
            "old_attempt WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.item_id = ",
            $id,
            " AND attempt.epoch = old_attempt.epoch)"
        )
    };
}

macro_rules! attempts_on_postgres {
    ($which:expr) => {
        attempts_from!(
            "CAST(item_id AS UUID)",
            "CAST(attempt_id AS UUID)",
            "CAST(run_id AS UUID)",
            "CAST(host_id AS UUID)",
            "decode(digest, 'hex')",
            $which
        )
    };
}

pub const ATTEMPTS: Sql = Sql::differs(
    attempts_from!("item_id", "attempt_id", "run_id", "host_id", "unhex(digest)", attempts!(next)),
    attempts_on_postgres!(attempts!(next)),
);
pub const MISSING_ATTEMPTS: Sql = Sql::differs(
    attempts_from!(
        "item_id",
        "attempt_id",
        "run_id",
        "host_id",
        "unhex(digest)",
        attempts!(missing, "old_attempt.item_id")
    ),
    attempts_on_postgres!(attempts!(missing, "CAST(old_attempt.item_id AS UUID)")),
);
pub const OLD_ATTEMPTS: Sql = Sql::same("SELECT COUNT(*) AS n FROM old_attempt");
pub const ATTEMPT: Sql = Sql::same(
    "SELECT item_id, epoch FROM old_attempt WHERE (item_id, epoch) > (:item, :epoch) ORDER BY item_id, epoch LIMIT 1 OFFSET :skip",
);

/// Whether a text is no UUID as hosts write it, on SQLite.
macro_rules! no_uuid {
    ($column:literal) => {
        concat!(
            "(length(",
            $column,
            ") <> 36 OR replace(",
            $column,
            ", '-', '') GLOB '*[^0-9a-f]*' OR length(replace(",
            $column,
            ", '-', '')) <> 32 OR substr(",
            $column,
            ", 9, 1) || substr(",
            $column,
            ", 14, 1) || substr(",
            $column,
            ", 19, 1) || substr(",
            $column,
            ", 24, 1) <> '----')"
        )
    };
}

/// The reason of the first row of a portion that the copy would not refuse, and that cannot be right.
pub const BAD_ITEM: Sql = Sql::differs(
    concat!(
        "SELECT CASE WHEN ", no_uuid!("id"), " THEN 'its id is no UUID'
    WHEN ", no_uuid!("run_id"), " THEN 'its run_id is no UUID: ' || run_id
    WHEN ", no_uuid!("seen_run_id"), " THEN 'its seen_run_id is no UUID: ' || seen_run_id
    WHEN state = 'running' AND (attempt_id IS NULL OR host_id IS NULL OR claimed_at_ms IS NULL OR lease_until_ms IS NULL)
        THEN 'it runs without an attempt_id, a host_id, a claimed_at_ms or a lease_until_ms'
    WHEN state = 'running' AND ", no_uuid!("attempt_id"), " THEN 'its attempt_id is no UUID: ' || attempt_id END AS reason
FROM (SELECT id, run_id, seen_run_id, state, attempt_id, host_id, claimed_at_ms, lease_until_ms
    FROM old_item WHERE id > :item ORDER BY id LIMIT :most) AS portion WHERE reason IS NOT NULL LIMIT 1"
    ),
    "SELECT CASE WHEN attempt_id IS NULL OR host_id IS NULL OR claimed_at_ms IS NULL OR lease_until_ms IS NULL
    THEN 'it runs without an attempt_id, a host_id, a claimed_at_ms or a lease_until_ms'
    ELSE 'its attempt_id is no UUID: ' || attempt_id END AS reason
FROM (SELECT state, attempt_id, host_id, claimed_at_ms, lease_until_ms
    FROM old_item WHERE id > :item ORDER BY id LIMIT :most) AS portion
WHERE state = 'running' AND (attempt_id IS NULL OR host_id IS NULL OR claimed_at_ms IS NULL OR lease_until_ms IS NULL
    OR attempt_id !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$') LIMIT 1",
);
/// On Postgres, the casts of the copy find them.
pub const BAD_ATTEMPT: Sql = Sql::same(concat!(
    "SELECT CASE WHEN ", no_uuid!("item_id"), " THEN 'its item_id is no UUID'
    WHEN ", no_uuid!("attempt_id"), " THEN 'its attempt_id is no UUID: ' || attempt_id
    WHEN ", no_uuid!("host_id"), " THEN 'its host_id is no UUID: ' || host_id
    WHEN ", no_uuid!("run_id"), " THEN 'its run_id is no UUID: ' || run_id
    WHEN digest IS NOT NULL AND unhex(digest) IS NULL THEN 'its digest is not hexadecimal: ' || digest END AS reason
FROM (SELECT item_id, attempt_id, host_id, run_id, digest FROM old_attempt WHERE (item_id, epoch) > (:item, :epoch)
    ORDER BY item_id, epoch LIMIT :most) AS portion WHERE reason IS NOT NULL LIMIT 1"
));

/// A statement that fills a small table, or builds an index of a copied one.
pub struct Finish {
    pub name: &'static str,
    pub sql: Sql,
}

/// In order of the rows' keys, so that each table is written from its beginning to its end.
pub const FINISHES: [Finish; 12] = [
    // Work of hosts that ran before the upgrade is recovered like that of any lost host.
    Finish {
        name: "claims of running items",
        sql: Sql::differs(
            "INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items)
SELECT attempt_id, MIN(claimed_at_ms), MIN(lease_until_ms), COUNT(*), MIN(job), MIN(host_id), '',
    json_group_array(json_array(id, epoch))
FROM old_item WHERE state = 'running' GROUP BY attempt_id",
            "INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items, epochs)
SELECT CAST(attempt_id AS UUID), MIN(claimed_at_ms), MIN(lease_until_ms), COUNT(*), MIN(job), MIN(host_id), '',
    array_agg(CAST(id AS UUID) ORDER BY id), array_agg(epoch ORDER BY id)
FROM old_item WHERE state = 'running' GROUP BY attempt_id",
        ),
    },
    Finish {
        name: "due items",
        sql: Sql::differs(
            "INSERT INTO due (job, priority, due_at_ms, item_id) SELECT job, priority, due_at_ms, id
FROM old_item WHERE state IN ('waiting', 'awaiting') ORDER BY job, priority, due_at_ms, id",
            "INSERT INTO due (job, priority, due_at_ms, item_id) SELECT job, priority, due_at_ms, CAST(id AS UUID)
FROM old_item WHERE state IN ('waiting', 'awaiting') ORDER BY job, priority, due_at_ms, id",
        ),
    },
    Finish {
        name: "parked items",
        sql: Sql::differs(
            "INSERT INTO parked (job, state, item_id, since_ms) SELECT job, state, id, updated_at_ms
FROM old_item WHERE state IN ('manual_required', 'abandoned') ORDER BY job, state, id",
            "INSERT INTO parked (job, state, item_id, since_ms) SELECT job, state, CAST(id AS UUID), updated_at_ms
FROM old_item WHERE state IN ('manual_required', 'abandoned') ORDER BY job, state, id",
        ),
    },
    // From the new rows, so that the check against the old ones compares two paths.
    Finish {
        name: "counts of items",
        sql: Sql::same(
            "INSERT INTO counter (job, class, items) SELECT job, class, COUNT(*) FROM (SELECT job,
    CASE WHEN state = 'scheduled' AND attempts = 0 THEN 'pending' WHEN state = 'scheduled' THEN 'retrying' ELSE state END AS class
    FROM item) AS classes GROUP BY job, class",
        ),
    },
    Finish {
        name: "batches",
        sql: Sql::same(
            "INSERT INTO batch (id, job, created_by, created_at_ms)
SELECT batch_id, MIN(job), COALESCE(MIN(created_by), ''), MIN(created_at_ms) FROM item WHERE batch_id IS NOT NULL GROUP BY batch_id",
        ),
    },
    index("CREATE UNIQUE INDEX item_by_key ON item (job, item_key)", "index of items by key"),
    index(
        "CREATE UNIQUE INDEX item_by_batch ON item (batch_id, batch_index) WHERE batch_id IS NOT NULL",
        "index of items by batch",
    ),
    index("CREATE INDEX item_by_job ON item (job, created_at_ms)", "index of items by job"),
    index("CREATE INDEX attempt_by_job ON attempt (job, ended_at_ms)", "index of attempts by job"),
    index(
        "CREATE INDEX attempt_by_run ON attempt (run_id, item_id, epoch) WHERE run_id IS NOT NULL",
        "index of attempts by run",
    ),
    index("CREATE INDEX parked_by_time ON parked (state, since_ms, item_id)", "index of parked items"),
    index("CREATE INDEX parked_by_job ON parked (job, state, since_ms, item_id)", "index of parked items by job"),
];

const fn index(sql: &'static str, name: &'static str) -> Finish {
    Finish { name, sql: Sql::same(sql) }
}

/// What is compared after the copy: a text, and two numbers that must be equal.
pub const CHECKS: [(&str, Sql); 6] = [
    (
        "items",
        Sql::same("SELECT (SELECT COUNT(*) FROM old_item) AS expected, (SELECT COUNT(*) FROM item) AS found"),
    ),
    (
        "attempts",
        Sql::same("SELECT (SELECT COUNT(*) FROM old_attempt) AS expected, (SELECT COUNT(*) FROM attempt) AS found"),
    ),
    (
        "jobs and classes of items whose counts agree",
        Sql::same(
            "SELECT COUNT(*) AS expected, CAST(COALESCE(SUM(CASE WHEN old.items = counter.items THEN 1 ELSE 0 END), 0) AS BIGINT) AS found
FROM (SELECT job, class, COUNT(*) AS items FROM (SELECT job, CASE WHEN state IN ('waiting', 'running') AND attempts = 0
    THEN 'pending' WHEN state IN ('waiting', 'running') THEN 'retrying' ELSE state END AS class FROM old_item) AS classes
    GROUP BY job, class) AS old
LEFT JOIN counter ON counter.job = old.job AND counter.class = old.class",
        ),
    ),
    (
        "open items, each due or claimed",
        Sql::same(
            "SELECT (SELECT COUNT(*) FROM item WHERE state IN ('scheduled', 'awaiting')) AS expected,
    (SELECT COUNT(*) FROM due) + (SELECT COUNT(*) FROM claimed_item) AS found",
        ),
    ),
    (
        "parked items",
        Sql::same(
            "SELECT (SELECT COUNT(*) FROM item WHERE state IN ('manual_required', 'abandoned')) AS expected,
    (SELECT COUNT(*) FROM parked) AS found",
        ),
    ),
    (
        "batches",
        Sql::same(
            "SELECT (SELECT COUNT(DISTINCT batch_id) FROM old_item) AS expected, (SELECT COUNT(*) FROM batch) AS found",
        ),
    ),
];
