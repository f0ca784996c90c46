//! Statements on alerts.

use crate::db::sql::Sql;

/// If an alert is open already, increases its count and replaces its text. Each alert has one row.
pub const ALERTS_RAISE: Sql = Sql::same(
    "INSERT INTO alert (id, job, kind, alert_key, severity, message, metadata, times, first_at_ms, last_at_ms)
    SELECT id, job, kind, alert_key, severity, message, metadata, times, first_at_ms, last_at_ms
    FROM @raised(id text, job text, kind text, alert_key text, severity text, message text, metadata text, times bigint,
        first_at_ms bigint, last_at_ms bigint) WHERE true
    ON CONFLICT (job, kind, alert_key) WHERE acknowledged_at_ms IS NULL DO UPDATE SET
        severity = excluded.severity, message = excluded.message, metadata = excluded.metadata,
        last_at_ms = excluded.last_at_ms, times = alert.times + excluded.times",
);
/// Opens alerts or increases their counts, and locks them. `ALERTS_WORDS` then sets their texts.
pub const ALERTS_COUNT: Sql = Sql::same(
    "INSERT INTO alert (id, job, kind, alert_key, severity, message, metadata, times, first_at_ms, last_at_ms)
    SELECT id, job, kind, alert_key, 'warning', '', '', times, first_at_ms, last_at_ms
    FROM @counted(id text, job text, kind text, alert_key text, times bigint, first_at_ms bigint, last_at_ms bigint)
    WHERE true
    ON CONFLICT (job, kind, alert_key) WHERE acknowledged_at_ms IS NULL DO UPDATE SET
        last_at_ms = excluded.last_at_ms, times = alert.times + excluded.times
    RETURNING id, job, kind, alert_key, metadata",
);
pub const ALERTS_WORDS: Sql = Sql::same(
    "UPDATE alert SET severity = worded.severity, message = worded.message, metadata = worded.metadata
    FROM @worded(id text, severity text, message text, metadata text) @target(alert ON alert.id = worded.id)",
);
pub const ALERT_ACKNOWLEDGE: Sql = Sql::same(
    "UPDATE alert SET acknowledged_at_ms = :now, acknowledged_by = :by WHERE id = :alert AND acknowledged_at_ms IS NULL
    RETURNING job, kind, alert_key",
);
pub const ALERT_GET: Sql = Sql::same("SELECT * FROM alert WHERE id = :alert");
/// Open alerts first, then by the time they were last raised.
pub const ALERTS_LIST: Sql = Sql::same(
    "SELECT * FROM alert WHERE (CAST(:only_open AS BIGINT) = 0 OR acknowledged_at_ms IS NULL)
    ORDER BY CASE WHEN acknowledged_at_ms IS NULL THEN 0 ELSE 1 END, last_at_ms DESC, id LIMIT :limit",
);
pub const ALERTS_PRUNE: Sql = Sql::same("DELETE FROM alert WHERE acknowledged_at_ms < :until");
/// Open alerts that were raised a while ago and have no event yet. The host that marks one adds its event.
pub const ALERTS_NOTIFY: Sql = Sql::same(
    "UPDATE alert SET notified_at_ms = :now
    WHERE acknowledged_at_ms IS NULL AND notified_at_ms IS NULL AND first_at_ms <= :until RETURNING *",
);
