//! Statement texts for Postgres. They lock the rows that a host is about to change, and other hosts skip
//! these.
//!
//! A claim selects its rows in an ARRAY, which is evaluated once. With `IN (SELECT … LIMIT … SKIP LOCKED)`, a
//! plan with a nested loop evaluates the subquery for each row and claims more than the limit.
//!
//! Tables here change completely within seconds, so no plan may depend on the planner's statistics. The
//! session rules out scans of whole tables (see `HOT_PLANS` in `db/session.rs`). A statement that finds a row
//! by its id must not let the planner use a partial index on the state: `state || ''` hides the column from
//! it.

pub const VERSION: &str = "SELECT current_setting('server_version') AS version";

pub const OWN_TABLES: &str = "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables
    WHERE schemaname = 'tidemill' AND tablename IN ('_sqlx_migrations', 'store_identity')";
pub const NOW: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms";

pub const LOCK_ROW: &str = "SELECT token FROM named_lock WHERE name = :name FOR UPDATE";

/// Waits for a locked run: a transaction that counts an outcome on it ends soon. If the run were skipped, it
/// would stay unclaimed until the next poll, because no further notification follows.
pub const RUN_CLAIM: &str = "UPDATE run SET epoch = epoch + 1, claim_id = :claim, host_id = :host, lease_until_ms = :until, crashes = crashes + 1
    WHERE state || '' = 'discovering' AND id = ANY (ARRAY(SELECT id FROM run
        WHERE job = :job AND state = 'discovering' AND (lease_until_ms IS NULL OR lease_until_ms < :before)
            AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.job IN (:job, '*'))
        ORDER BY created_at_ms + 0 LIMIT 1 FOR UPDATE))
    RETURNING *";

pub const RUNS_RENEW: &str = "UPDATE run SET lease_until_ms = GREATEST(lease_until_ms, :until)
    WHERE state = 'discovering' AND host_id = :host
        AND claim_id = ANY (ARRAY(SELECT CAST(id AS TEXT) FROM @held(id uuid)))
    RETURNING claim_id AS id";

/// Reads each topic separately, in the order of its index: a list of topics would be read completely and
/// sorted.
pub const EVENTS_CLAIM: &str = "WITH heads AS MATERIALIZED (
        SELECT first.id, first.created_at_ms, first.seq, first.bytes FROM @topics(name text)
        CROSS JOIN LATERAL (SELECT head.id, head.created_at_ms, head.seq, octet_length(head.payload) AS bytes FROM event AS head
            WHERE head.topic = topics.name AND head.delivered_at_ms IS NULL AND head.dead_at_ms IS NULL AND head.due_at_ms <= :now
            AND head.id = (SELECT earliest.id FROM event AS earliest
                WHERE earliest.topic = head.topic AND earliest.event_key = head.event_key
                    AND earliest.delivered_at_ms IS NULL AND earliest.dead_at_ms IS NULL
                ORDER BY earliest.topic, earliest.event_key, earliest.created_at_ms, earliest.seq LIMIT 1)
            ORDER BY head.topic, head.created_at_ms, head.seq LIMIT :events FOR UPDATE OF head SKIP LOCKED) AS first
        ORDER BY first.created_at_ms, first.seq LIMIT :events),
    sized AS (SELECT id, SUM(bytes) OVER (ORDER BY created_at_ms, seq, id) - bytes AS ahead FROM heads)
    UPDATE event SET due_at_ms = :until, tries = tries + 1 WHERE id = ANY (ARRAY(SELECT id FROM sized WHERE ahead < :bytes))
    RETURNING *";

pub const EVENTS_FOLLOWING: &str = "WITH sized AS (
        SELECT next.id, SUM(next.bytes) OVER (ORDER BY next.created_at_ms, next.seq, next.id) AS total
        FROM @heads(topic text, event_key text, created_at_ms bigint, seq bigint)
        CROSS JOIN LATERAL (SELECT later.id, later.created_at_ms, later.seq, octet_length(later.payload) AS bytes
            FROM event AS later
            WHERE later.topic = heads.topic AND later.event_key = heads.event_key
                AND later.delivered_at_ms IS NULL AND later.dead_at_ms IS NULL
                AND (later.created_at_ms, later.seq) > (heads.created_at_ms, heads.seq)
            ORDER BY later.topic, later.event_key, later.created_at_ms, later.seq LIMIT :each) AS next)
    SELECT event.* FROM sized @join(event ON event.id = sized.id)
    WHERE sized.total <= :bytes ORDER BY event.created_at_ms, event.seq";

/// Locks the events in the order of their ids, as every other change of several events.
pub const EVENTS_DELIVERED: &str = "UPDATE event SET delivered_at_ms = :now
    WHERE id = ANY (ARRAY(SELECT id FROM @delivered(id text))) AND delivered_at_ms + 0 IS NULL RETURNING id";
