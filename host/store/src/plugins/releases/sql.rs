//! Statements on the releases of plugins.

use crate::db::sql::Sql;

macro_rules! release {
    ($rest:literal) => {
        concat!(
            "SELECT r.*, (SELECT COUNT(*) FROM plugin_version AS v WHERE v.plugin = r.plugin
                AND v.uploaded_at_ms IS NOT NULL AND (v.digest = r.stable OR v.digest = r.candidate)) AS uploaded
            FROM plugin_release AS r ",
            $rest
        )
    };
}

pub const ALL: Sql = Sql::same(release!("ORDER BY r.plugin"));
pub const ONE: Sql =
    Sql::differs(release!("WHERE r.plugin = :plugin"), release!("WHERE r.plugin = :plugin FOR UPDATE OF r"));
pub const STABLE_PUT: Sql = Sql::same(
    "INSERT INTO plugin_release (plugin, stable, since_ms, cause) VALUES (:plugin, :digest, :now, :cause)
    ON CONFLICT (plugin) DO UPDATE SET stable = excluded.stable, since_ms = excluded.since_ms,
        cause = excluded.cause, candidate = NULL, stage = NULL, stage_since_ms = NULL, wants = ''",
);
pub const CANDIDATE_PUT: Sql = Sql::same(
    "UPDATE plugin_release SET candidate = :digest, stage = :stage, stage_since_ms = :now, wants = :wants WHERE plugin = :plugin",
);
pub const CANDIDATE_REMOVE: Sql = Sql::same(
    "UPDATE plugin_release SET candidate = NULL, stage = NULL, stage_since_ms = NULL, wants = ''
    WHERE plugin = :plugin AND candidate = :digest",
);
pub const RETIRE: Sql = Sql::same(
    "UPDATE plugin_release SET stable = NULL, since_ms = :now, cause = :cause, candidate = NULL, stage = NULL,
        stage_since_ms = NULL, wants = '' WHERE plugin = :plugin AND stable IS NOT NULL",
);

pub const KNOWN: Sql = Sql::same(
    "SELECT released_at_ms, quarantine, asks FROM plugin_version WHERE plugin = :plugin AND digest = :digest",
);
pub const RELEASED: Sql =
    Sql::same("UPDATE plugin_version SET released_at_ms = :now WHERE plugin = :plugin AND digest = :digest");
pub const UPLOADED: Sql =
    Sql::same("UPDATE plugin_version SET uploaded_at_ms = :now WHERE plugin = :plugin AND digest = :digest");
pub const QUARANTINE: Sql =
    Sql::same("UPDATE plugin_version SET quarantine = :why WHERE plugin = :plugin AND digest = :digest");

pub const TRIED_ADD: Sql = Sql::same(
    "INSERT INTO plugin_trial (plugin, digest, attempts, failed, cpu_us) VALUES (:plugin, :digest, :attempts, :failed, :cpu_us)
    ON CONFLICT (plugin, digest) DO UPDATE SET attempts = plugin_trial.attempts + excluded.attempts,
        failed = plugin_trial.failed + excluded.failed, cpu_us = plugin_trial.cpu_us + excluded.cpu_us",
);
pub const TRIED: Sql = Sql::same(
    "SELECT digest, attempts, failed, cpu_us FROM plugin_trial WHERE plugin = :plugin ORDER BY digest",
);
pub const TRIED_FORGET: Sql = Sql::same("DELETE FROM plugin_trial WHERE plugin = :plugin");
