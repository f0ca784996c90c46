//! Statement texts for SQLite. A writing transaction holds the only write lock, so rows need no locks.

pub const VERSION: &str = "SELECT sqlite_version() AS version";

pub const OWN_TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('_sqlx_migrations', 'store_identity')";
pub const NOW: &str = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms";

pub const LOCK_ROW: &str = "SELECT token FROM named_lock WHERE name = :name";

/// Uses the index of open runs, and repeats its condition for that. In the order of time, SQLite would read
/// all finished runs.
pub const RUN_CLAIM: &str = "UPDATE run SET epoch = epoch + 1, claim_id = :claim, host_id = :host, lease_until_ms = :until, crashes = crashes + 1
    WHERE id IN (SELECT id FROM run INDEXED BY run_open
        WHERE job = :job AND state IN ('discovering', 'running') AND state = 'discovering' AND (lease_until_ms IS NULL OR lease_until_ms < :before)
            AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
        ORDER BY created_at_ms LIMIT 1)
    RETURNING *";

pub const RUNS_RENEW: &str = "UPDATE run INDEXED BY run_open SET lease_until_ms = max(lease_until_ms, :until)
    WHERE state IN ('discovering', 'running') AND state = 'discovering' AND host_id = :host
        AND claim_id IN (SELECT id FROM @held(id uuid))
    RETURNING claim_id AS id";

pub const EVENTS_CLAIM: &str = "UPDATE event SET due_at_ms = :until, tries = tries + 1 WHERE id IN (
        SELECT id FROM (SELECT id, SUM(bytes) OVER (ORDER BY created_at_ms, seq, id) - bytes AS ahead FROM (
            SELECT head.id, head.created_at_ms, head.seq, octet_length(head.payload) AS bytes
            FROM event AS head INDEXED BY event_pending
            WHERE head.delivered_at_ms IS NULL AND head.dead_at_ms IS NULL AND head.due_at_ms <= :now
            AND head.topic IN (SELECT name FROM @topics(name text))
            AND NOT EXISTS (SELECT 1 FROM event AS earlier
                WHERE earlier.topic = head.topic AND earlier.event_key = head.event_key
                    AND earlier.delivered_at_ms IS NULL AND earlier.dead_at_ms IS NULL
                    AND (earlier.created_at_ms < head.created_at_ms
                        OR (earlier.created_at_ms = head.created_at_ms AND earlier.seq < head.seq)))
            ORDER BY head.created_at_ms, head.seq LIMIT :events))
        WHERE ahead < :bytes)
    RETURNING *";

pub const EVENTS_FOLLOWING: &str = "WITH sized AS (
        SELECT next.id, SUM(octet_length(next.payload)) OVER (ORDER BY next.created_at_ms, next.seq, next.id) AS total
        FROM @heads(topic text, event_key text, created_at_ms bigint, seq bigint)
        CROSS JOIN event AS next ON next.id IN (SELECT later.id FROM event AS later INDEXED BY event_by_key
            WHERE later.topic = heads.topic AND later.event_key = heads.event_key
                AND later.delivered_at_ms IS NULL AND later.dead_at_ms IS NULL
                AND (later.created_at_ms, later.seq) > (heads.created_at_ms, heads.seq)
            ORDER BY later.created_at_ms, later.seq LIMIT :each))
    SELECT event.* FROM sized CROSS JOIN event ON event.id = sized.id
    WHERE sized.total <= :bytes ORDER BY event.created_at_ms, event.seq";

pub const EVENTS_DELIVERED: &str = "UPDATE event SET delivered_at_ms = :now
    WHERE id IN (SELECT id FROM @delivered(id text)) AND delivered_at_ms + 0 IS NULL RETURNING id";
