//! Statements on hosts, tokens, the audit trail and the identity of the store.

use super::{Sql, postgres, sqlite};

pub const NOW: Sql = Sql::differs(sqlite::NOW, postgres::NOW);
pub const VERSION: Sql = Sql::differs(sqlite::VERSION, postgres::VERSION);

/// The tables present of those that identify a store.
pub const OWN_TABLES: Sql = Sql::differs(sqlite::OWN_TABLES, postgres::OWN_TABLES);
pub const STORE_IDENTITY: Sql = Sql::same("SELECT id FROM store_identity WHERE one = 1");
pub const STORE_IDENTITY_PUT: Sql =
    Sql::same("INSERT INTO store_identity (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING");

/// Takes the row if its process stopped or ran in the same place, if no other process can run ($8), or if the row still
/// shows the incarnation and the beats ($6, $7) that the caller has seen for the time of a lease.
pub const HOST_TAKE: Sql = Sql::same(
    "INSERT INTO host (id, name, started_at_ms, heartbeat_at_ms, incarnation, place) VALUES ($1, $2, $3, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at_ms = excluded.started_at_ms,
        heartbeat_at_ms = CASE WHEN host.heartbeat_at_ms > excluded.heartbeat_at_ms THEN host.heartbeat_at_ms
            ELSE excluded.heartbeat_at_ms END, stopped_at_ms = NULL,
        incarnation = excluded.incarnation, place = excluded.place, beats = 0
    WHERE host.stopped_at_ms IS NOT NULL OR (host.place <> '' AND host.place = excluded.place)
        OR (host.incarnation = $6 AND host.beats = $7) OR $8 = 1",
);
pub const HOST_LIFE: Sql = Sql::same("SELECT name, incarnation, beats FROM host WHERE id = $1");
/// A heartbeat never moves back. One in the future shows that a clock was ahead, until the store is
/// corrected.
pub const HOST_BEAT: Sql = Sql::same(
    "UPDATE host SET beats = beats + 1,
        heartbeat_at_ms = CASE WHEN heartbeat_at_ms < $2 THEN $2 ELSE heartbeat_at_ms END
    WHERE id = $1 AND incarnation = $3",
);
pub const HOST_STOPPED: Sql =
    Sql::same("UPDATE host SET stopped_at_ms = $2 WHERE id = $1 AND incarnation = $3");
pub const HOSTS_LIST: Sql = Sql::same("SELECT * FROM host ORDER BY started_at_ms DESC LIMIT $1");

/// Hosts that were lost long ago and hold no items.
pub const HOSTS_PRUNE: Sql = Sql::same(
    "DELETE FROM host WHERE id <> $1 AND heartbeat_at_ms < $2 AND (stopped_at_ms IS NULL OR stopped_at_ms < $2)
        AND NOT EXISTS (SELECT 1 FROM item WHERE item.host_id = host.id)
    RETURNING id, name",
);

pub const TOKEN_ADD: Sql = Sql::same(
    "INSERT INTO token (name, hash, created_at_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
);
pub const TOKEN_REMOVE: Sql = Sql::same("DELETE FROM token WHERE name = $1");
pub const TOKENS_LIST: Sql = Sql::same("SELECT name, created_at_ms FROM token ORDER BY name");
pub const TOKEN_HOLDER: Sql = Sql::same("SELECT name FROM token WHERE hash = $1");

pub const AUDIT_ADD: Sql = Sql::same(
    "INSERT INTO audit (id, at_ms, actor, action, job, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
pub const AUDIT_LIST: Sql = Sql::same("SELECT * FROM audit ORDER BY at_ms DESC, id DESC LIMIT $1");

/// The time of the record that would be the last of a batch.
pub const AUDIT_OLD_LAST: Sql =
    Sql::same("SELECT at_ms FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT 1 OFFSET $2");
pub const AUDIT_OLD: Sql = Sql::same("SELECT * FROM audit WHERE at_ms < $1 ORDER BY at_ms, id");
pub const AUDIT_REMOVE: Sql = Sql::same("DELETE FROM audit WHERE at_ms < $1");
pub const ARCHIVE_ADD: Sql = Sql::same(
    "INSERT INTO audit_archive (file, until_ms, records, sha256, archived_at_ms) VALUES ($1, $2, $3, $4, $5)",
);
