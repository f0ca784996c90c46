//! Statements on hosts.

use crate::db::sql::Sql;

pub const HOST_TAKE: Sql = Sql::same(
    "INSERT INTO host (id, name, started_at_ms, heartbeat_at_ms, incarnation, place) VALUES (:host, :name, :now, :now, :incarnation, :place)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, started_at_ms = excluded.started_at_ms,
        heartbeat_at_ms = CASE WHEN host.heartbeat_at_ms > excluded.heartbeat_at_ms THEN host.heartbeat_at_ms
            ELSE excluded.heartbeat_at_ms END, stopped_at_ms = NULL,
        incarnation = excluded.incarnation, place = excluded.place, beats = 0
    WHERE host.stopped_at_ms IS NOT NULL OR (host.place <> '' AND host.place = excluded.place)
        OR (host.incarnation = :lapsed AND host.beats = :beats) OR :alone = 1",
);

pub const HOST_LIFE: Sql = Sql::same("SELECT name, incarnation, beats FROM host WHERE id = :host");

pub const HOST_BEAT: Sql = Sql::same(
    "UPDATE host SET beats = beats + 1,
        heartbeat_at_ms = CASE WHEN heartbeat_at_ms < :now THEN :now ELSE heartbeat_at_ms END
    WHERE id = :host AND incarnation = :incarnation",
);

pub const HOST_STOPPED: Sql =
    Sql::same("UPDATE host SET stopped_at_ms = :now WHERE id = :host AND incarnation = :incarnation");

pub const HOSTS_LIST: Sql = Sql::same("SELECT * FROM host ORDER BY started_at_ms DESC LIMIT :limit");

pub const HOSTS_PRUNE: Sql = Sql::same(
    "DELETE FROM host WHERE id <> :own AND heartbeat_at_ms < :before AND (stopped_at_ms IS NULL OR stopped_at_ms < :before)
        AND NOT EXISTS (SELECT 1 FROM claim WHERE claim.host_id = host.id)
    RETURNING id, name",
);

/// The key of the advisory lock that the process of this row holds.
macro_rules! presence_key {
    ($incarnation:literal) => {
        concat!("hashtextextended('tidemill host ' || ", $incarnation, ", 0)")
    };
}

/// A name by which people recognise the session. The server ends it 11 s after the host's machine, or the line to
/// it, has failed without a word.
pub const PRESENCE_SETTINGS: &str = "SELECT set_config('application_name', 'tidemill-presence', false),
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false)";

/// Waits while another session has the lock.
pub const PRESENCE_TAKE: &str =
    concat!("SELECT pg_backend_pid() AS backend, pg_advisory_lock(", presence_key!("$1"), ")");

/// One row for each other host, and at least one row. A lock that is free is shared for the duration of the statement:
/// the looks of several hosts do not exclude each other.
pub const PRESENCE_OTHERS: &str = concat!(
    "SELECT pg_backend_pid() AS backend, other.* FROM (VALUES (1)) AS own (session) LEFT JOIN (
        SELECT id, incarnation, name, NOT pg_try_advisory_xact_lock_shared(",
    presence_key!("incarnation"),
    ") AS is_present
        FROM host WHERE id <> $1 AND stopped_at_ms IS NULL AND incarnation <> '' AND heartbeat_at_ms >= $2) AS other
    ON true"
);

/// SQLite has no locks of sessions. There, only a process itself tells that it ended.
pub const HOST_ENDED: Sql = Sql::differs(
    "SELECT id FROM host WHERE id = :host AND incarnation = :incarnation",
    concat!(
        "SELECT id FROM host WHERE id = :host AND incarnation = :incarnation AND pg_try_advisory_xact_lock_shared(",
        presence_key!(":incarnation"),
        ")"
    ),
);
