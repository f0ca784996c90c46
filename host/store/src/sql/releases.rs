//! Statements on which version of a plugin runs.

use super::Sql;

pub const ALL: Sql = Sql::same("SELECT * FROM plugin_release ORDER BY plugin");
pub const ONE: Sql = Sql::differs(
    "SELECT * FROM plugin_release WHERE plugin = $1",
    "SELECT * FROM plugin_release WHERE plugin = $1 FOR UPDATE",
);
pub const STABLE_PUT: Sql = Sql::same(
    "INSERT INTO plugin_release (plugin, stable, since_ms) VALUES ($1, $2, $3)
    ON CONFLICT (plugin) DO UPDATE SET stable = excluded.stable, since_ms = excluded.since_ms,
        candidate = NULL, stage = NULL, stage_since_ms = NULL, wants = ''",
);
pub const CANDIDATE_PUT: Sql = Sql::same(
    "UPDATE plugin_release SET candidate = $2, stage = $3, stage_since_ms = $4, wants = $5 WHERE plugin = $1",
);
pub const CANDIDATE_REMOVE: Sql = Sql::same(
    "UPDATE plugin_release SET candidate = NULL, stage = NULL, stage_since_ms = NULL, wants = ''
    WHERE plugin = $1 AND candidate = $2",
);
pub const RETIRE: Sql = Sql::same(
    "UPDATE plugin_release SET stable = NULL, since_ms = $2, candidate = NULL, stage = NULL, stage_since_ms = NULL,
        wants = '' WHERE plugin = $1 AND stable IS NOT NULL",
);

pub const KNOWN: Sql =
    Sql::same("SELECT released_at_ms, quarantine FROM plugin_version WHERE plugin = $1 AND digest = $2");
pub const RELEASED: Sql =
    Sql::same("UPDATE plugin_version SET released_at_ms = $3 WHERE plugin = $1 AND digest = $2");
pub const QUARANTINE: Sql =
    Sql::same("UPDATE plugin_version SET quarantine = $3 WHERE plugin = $1 AND digest = $2");

pub const TRIED_ADD: Sql = Sql::same(
    "INSERT INTO plugin_trial (plugin, digest, attempts, failed, cpu_us) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (plugin, digest) DO UPDATE SET attempts = plugin_trial.attempts + excluded.attempts,
        failed = plugin_trial.failed + excluded.failed, cpu_us = plugin_trial.cpu_us + excluded.cpu_us",
);
pub const TRIED: Sql =
    Sql::same("SELECT digest, attempts, failed, cpu_us FROM plugin_trial WHERE plugin = $1 ORDER BY digest");
pub const TRIED_FORGET: Sql = Sql::same("DELETE FROM plugin_trial WHERE plugin = $1");
