//! Statements on the outbox and the key-value table.

use crate::db::sql::{Sql, postgres, sqlite};

pub const EVENT_ADD: Sql = Sql::same(
    "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
);
pub const EVENTS_PENDING: Sql = Sql::same(
    "SELECT * FROM event WHERE delivered_at_ms IS NULL AND dead_at_ms IS NULL AND (CAST($1 AS TEXT) IS NULL OR topic = $1)
    ORDER BY created_at_ms, seq LIMIT $2",
);
pub const EVENT_DELIVERED: Sql =
    Sql::same("UPDATE event SET delivered_at_ms = $2 WHERE id = $1 AND delivered_at_ms + 0 IS NULL");

/// The oldest event of each key, if it is due: no event overtakes an earlier one that is not delivered yet.
pub const EVENTS_CLAIM: Sql = Sql::differs(sqlite::EVENTS_CLAIM, postgres::EVENTS_CLAIM);
pub const EVENT_FAILED: Sql = Sql::same(
    "UPDATE event SET due_at_ms = $2, error = $3, dead_at_ms = $4 WHERE id = $1 AND delivered_at_ms + 0 IS NULL",
);
pub const EVENTS_DEAD: Sql = Sql::same(
    "SELECT * FROM event WHERE dead_at_ms IS NOT NULL AND delivered_at_ms IS NULL ORDER BY dead_at_ms DESC, id LIMIT $1",
);
pub const EVENTS_REDRIVE: Sql = Sql::same(
    "UPDATE event SET dead_at_ms = NULL, tries = 0, due_at_ms = $2
    WHERE dead_at_ms IS NOT NULL AND delivered_at_ms IS NULL AND (CAST($1 AS TEXT) IS NULL OR id = $1)",
);

pub const KV_GET: Sql = Sql::same(
    "SELECT value FROM kv WHERE job = $1 AND bucket = $2 AND kv_key = $3 AND (expires_at_ms IS NULL OR expires_at_ms > $4)",
);
pub const KV_PUT: Sql = Sql::same(
    "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (job, bucket, kv_key) DO UPDATE
        SET value = excluded.value, updated_at_ms = excluded.updated_at_ms, expires_at_ms = excluded.expires_at_ms",
);
/// Only if the key has no value.
pub const KV_ADD: Sql = Sql::same(
    "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (job, bucket, kv_key) DO UPDATE
        SET value = excluded.value, updated_at_ms = excluded.updated_at_ms, expires_at_ms = excluded.expires_at_ms
        WHERE kv.expires_at_ms <= excluded.updated_at_ms",
);
/// Only if the key has this value.
pub const KV_CHANGE: Sql = Sql::same(
    "UPDATE kv SET value = $4, updated_at_ms = $5, expires_at_ms = $6
    WHERE job = $1 AND bucket = $2 AND kv_key = $3 AND value = $7 AND (expires_at_ms IS NULL OR expires_at_ms > $5)",
);
pub const KV_TAKE: Sql = Sql::same(
    "DELETE FROM kv WHERE job = $1 AND bucket = $2 AND kv_key = $3 AND value = $5
        AND (expires_at_ms IS NULL OR expires_at_ms > $4)",
);
pub const KV_EXPIRED: Sql = Sql::same("DELETE FROM kv WHERE expires_at_ms <= $1");
pub const KV_DELETE: Sql = Sql::same("DELETE FROM kv WHERE job = $1 AND bucket = $2 AND kv_key = $3");
pub const KV_COUNT: Sql =
    Sql::same("SELECT COUNT(*) AS number FROM (SELECT kv_key FROM kv WHERE job = $1 LIMIT $2) AS some_keys");
pub const KV_KEYS: Sql = Sql::same(
    "SELECT kv_key FROM kv WHERE job = $1 AND bucket = $2 AND (expires_at_ms IS NULL OR expires_at_ms > $5)
    ORDER BY kv_key LIMIT $3 OFFSET $4",
);
