//! Statements on the outbox and the key-value table.

use crate::db::sql::{Sql, locking, postgres, sqlite};

pub const EVENTS_ADD: Sql = Sql::same(
    "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
    SELECT id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms
    FROM @added(id text, seq bigint, topic text, event_key text, payload text, job text, item_id text, epoch bigint,
        created_at_ms bigint)",
);
pub const EVENTS_PENDING: Sql = Sql::same(
    "SELECT * FROM event WHERE delivered_at_ms IS NULL AND dead_at_ms IS NULL AND (CAST(:topic AS TEXT) IS NULL OR topic = :topic)
    ORDER BY created_at_ms, seq LIMIT :limit",
);
/// Marks events that were not taken before.
pub const EVENTS_DELIVERED: Sql = Sql::differs(sqlite::EVENTS_DELIVERED, postgres::EVENTS_DELIVERED);

/// The oldest event of each key, if it is due: no event overtakes an earlier one that is not delivered yet. The
/// payloads before the last one fit into the limit.
pub const EVENTS_CLAIM: Sql = Sql::differs(sqlite::EVENTS_CLAIM, postgres::EVENTS_CLAIM);
/// The next events of claimed keys, which nobody else can claim before their first one.
pub const EVENTS_FOLLOWING: Sql = Sql::differs(sqlite::EVENTS_FOLLOWING, postgres::EVENTS_FOLLOWING);
/// Events in the given order. On Postgres they stay locked.
pub const EVENTS_LOCK: Sql = locking!(
    "SELECT event.id FROM @asked(id text) @join(event ON event.id = asked.id)",
    " FOR UPDATE OF event"
);
/// Tries of locked events that were not delivered. Without an error they keep that of an earlier try.
pub const EVENTS_TRIED: Sql = Sql::same(
    "UPDATE event SET tries = tried.tries, due_at_ms = tried.due_at_ms, error = COALESCE(tried.error, event.error),
        dead_at_ms = tried.dead_at_ms
    FROM @tried(id text, tries bigint, due_at_ms bigint, error text, dead_at_ms bigint)
    @target(event ON event.id = tried.id) AND event.delivered_at_ms + 0 IS NULL",
);
pub const EVENTS_DEAD: Sql = Sql::same(
    "SELECT * FROM event WHERE dead_at_ms IS NOT NULL AND delivered_at_ms IS NULL ORDER BY dead_at_ms DESC, id LIMIT :limit",
);
pub const EVENTS_REDRIVE: Sql = Sql::same(
    "UPDATE event SET dead_at_ms = NULL, tries = 0, due_at_ms = :now
    WHERE dead_at_ms IS NOT NULL AND delivered_at_ms IS NULL AND (CAST(:event AS TEXT) IS NULL OR id = :event)",
);

pub const KV_GET: Sql = Sql::same(
    "SELECT value FROM kv WHERE job = :job AND bucket = :bucket AND kv_key = :key AND (expires_at_ms IS NULL OR expires_at_ms > :now)",
);
/// Inserts keys without a row and returns them. On Postgres it locks the rows of the others: a false condition keeps
/// them from being written, but not from being locked.
pub const KV_ADD: Sql = Sql::same(
    "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms, expires_at_ms)
    SELECT job, bucket, kv_key, value, updated_at_ms, expires_at_ms
    FROM @added(job text, bucket text, kv_key text, value bytea, updated_at_ms bigint, expires_at_ms bigint) WHERE true
    ON CONFLICT (job, bucket, kv_key) DO UPDATE SET value = kv.value WHERE false RETURNING job, bucket, kv_key",
);
/// The keys of these that have a row, and whether the value is the one that was found.
pub const KV_FOUND: Sql = Sql::same(
    "SELECT kv.job, kv.bucket, kv.kv_key, kv.expires_at_ms, CASE WHEN kv.value = asked.found THEN 1 ELSE 0 END AS is_found
    FROM @asked(job text, bucket text, kv_key text, found bytea)
    @join(kv ON kv.job = asked.job AND kv.bucket = asked.bucket AND kv.kv_key = asked.kv_key)",
);
pub const KV_PUT: Sql = Sql::same(
    "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms, expires_at_ms)
    SELECT job, bucket, kv_key, value, updated_at_ms, expires_at_ms
    FROM @put(job text, bucket text, kv_key text, value bytea, updated_at_ms bigint, expires_at_ms bigint) WHERE true
    ON CONFLICT (job, bucket, kv_key) DO UPDATE
        SET value = excluded.value, updated_at_ms = excluded.updated_at_ms, expires_at_ms = excluded.expires_at_ms",
);
pub const KV_REMOVE: Sql = Sql::differs(
    "DELETE FROM kv WHERE rowid IN (SELECT kv.rowid FROM @removed(job text, bucket text, kv_key text)
        @join(kv ON kv.job = removed.job AND kv.bucket = removed.bucket AND kv.kv_key = removed.kv_key))",
    "DELETE FROM kv USING @removed(job text, bucket text, kv_key text)
    @target(kv ON kv.job = removed.job AND kv.bucket = removed.bucket AND kv.kv_key = removed.kv_key)",
);
/// Leaves out keys that an attempt is writing, instead of waiting for them while it holds others.
pub const KV_EXPIRED: Sql = Sql::differs(
    "DELETE FROM kv WHERE expires_at_ms <= :now",
    "DELETE FROM kv WHERE ctid = ANY(ARRAY(SELECT ctid FROM kv WHERE expires_at_ms <= :now FOR UPDATE SKIP LOCKED))",
);
pub const KV_COUNT: Sql = Sql::same(
    "SELECT COUNT(*) AS number FROM (SELECT kv_key FROM kv WHERE job = :job LIMIT :limit) AS some_keys",
);
pub const KV_KEYS: Sql = Sql::same(
    "SELECT kv_key FROM kv WHERE job = :job AND bucket = :bucket AND (expires_at_ms IS NULL OR expires_at_ms > :now)
    ORDER BY kv_key LIMIT :limit OFFSET :from",
);
