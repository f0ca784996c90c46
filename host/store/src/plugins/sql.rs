//! Statements on versions of plugins.

use crate::db::sql::Sql;

pub const VERSION_PUT: Sql = Sql::same(
    "INSERT INTO plugin_version (plugin, digest, size_bytes, version, summary, state, reason, host_id, seen_at_ms, asks)
    VALUES (:plugin, :digest, :size, :version, :summary, :state, :reason, :host, :now, :asks)
    ON CONFLICT (plugin, digest) DO UPDATE SET state = excluded.state, reason = excluded.reason,
        host_id = excluded.host_id, seen_at_ms = excluded.seen_at_ms,
        asks = CASE WHEN excluded.asks = '' THEN plugin_version.asks ELSE excluded.asks END",
);
/// Adds a version that is not active yet; an existing row is not changed.
pub const VERSION_NOTE: Sql = Sql::same(
    "INSERT INTO plugin_version (plugin, digest, size_bytes, version, summary, state, host_id, seen_at_ms, asks)
    VALUES (:plugin, :digest, :size, :version, :summary, 'retired', :host, :now, :asks) ON CONFLICT (plugin, digest) DO NOTHING",
);
pub const VERSIONS: Sql = Sql::same(
    "SELECT v.*, f.kept_at_ms FROM plugin_version AS v
    LEFT JOIN plugin_file AS f ON f.plugin = v.plugin AND f.digest = v.digest
    WHERE v.plugin = :plugin ORDER BY v.seen_at_ms DESC, v.digest LIMIT :limit",
);

/// Keeping a file again makes it as recent as a new one.
pub const FILE_KEEP: Sql = Sql::same(
    "INSERT INTO plugin_file (plugin, digest, bytes, signature, kept_at_ms) VALUES (:plugin, :digest, :bytes, :signature, :now)
    ON CONFLICT (plugin, digest) DO UPDATE SET signature = excluded.signature, kept_at_ms = excluded.kept_at_ms",
);
pub const FILE_GET: Sql =
    Sql::same("SELECT bytes, signature FROM plugin_file WHERE plugin = :plugin AND digest = :digest");
/// Pinned and active versions, stable versions and candidates stay.
pub const FILES_FORGET: Sql = Sql::same(
    "DELETE FROM plugin_file WHERE plugin = :plugin
        AND digest NOT IN (SELECT digest FROM plugin_file WHERE plugin = :plugin ORDER BY kept_at_ms DESC, digest LIMIT :limit)
        AND digest NOT IN (SELECT digest FROM plugin_pin WHERE plugin = :plugin)
        AND digest NOT IN (SELECT stable FROM plugin_release WHERE plugin = :plugin AND stable IS NOT NULL)
        AND digest NOT IN (SELECT candidate FROM plugin_release WHERE plugin = :plugin AND candidate IS NOT NULL)
        AND digest NOT IN (SELECT digest FROM plugin_version WHERE plugin = :plugin AND state = 'active')",
);

pub const PINS: Sql = Sql::same("SELECT * FROM plugin_pin ORDER BY plugin");
pub const PIN_OF: Sql = Sql::same("SELECT digest FROM plugin_pin WHERE plugin = :plugin");
pub const PIN_PUT: Sql = Sql::same(
    "INSERT INTO plugin_pin (plugin, digest, by_whom, since_ms) VALUES (:plugin, :digest, :by, :now)
    ON CONFLICT (plugin) DO UPDATE SET digest = excluded.digest, by_whom = excluded.by_whom, since_ms = excluded.since_ms",
);
pub const PIN_REMOVE: Sql = Sql::same("DELETE FROM plugin_pin WHERE plugin = :plugin");
