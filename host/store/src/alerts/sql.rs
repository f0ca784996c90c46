//! Statements on alerts.

use crate::db::sql::Sql;

/// If the alert is open already, increases its count and replaces its text.
pub const ALERT_RAISE: Sql = Sql::same(
    "INSERT INTO alert (id, job, kind, alert_key, severity, message, metadata, first_at_ms, last_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
    ON CONFLICT (job, kind, alert_key) WHERE acknowledged_at_ms IS NULL DO UPDATE SET
        severity = excluded.severity, message = excluded.message, metadata = excluded.metadata,
        last_at_ms = excluded.last_at_ms, times = alert.times + 1",
);
/// Opens an alert or increases its count, and locks it. `ALERT_WORDS` then sets its text.
pub const ALERT_COUNT: Sql = Sql::same(
    "INSERT INTO alert (id, job, kind, alert_key, severity, message, metadata, first_at_ms, last_at_ms)
    VALUES ($1, $2, $3, $4, 'warning', '', '', $5, $5)
    ON CONFLICT (job, kind, alert_key) WHERE acknowledged_at_ms IS NULL DO UPDATE SET
        last_at_ms = excluded.last_at_ms, times = alert.times + 1
    RETURNING id, metadata",
);
pub const ALERT_WORDS: Sql =
    Sql::same("UPDATE alert SET severity = $2, message = $3, metadata = $4 WHERE id = $1");
pub const ALERT_ACKNOWLEDGE: Sql = Sql::same(
    "UPDATE alert SET acknowledged_at_ms = $2, acknowledged_by = $3 WHERE id = $1 AND acknowledged_at_ms IS NULL
    RETURNING job, kind, alert_key",
);
pub const ALERT_GET: Sql = Sql::same("SELECT * FROM alert WHERE id = $1");
/// Open alerts first, then by the time they were last raised.
pub const ALERTS_LIST: Sql = Sql::same(
    "SELECT * FROM alert WHERE (CAST($1 AS BIGINT) = 0 OR acknowledged_at_ms IS NULL)
    ORDER BY CASE WHEN acknowledged_at_ms IS NULL THEN 0 ELSE 1 END, last_at_ms DESC, id LIMIT $2",
);
pub const ALERTS_PRUNE: Sql = Sql::same("DELETE FROM alert WHERE acknowledged_at_ms < $1");
/// Open alerts that were raised a while ago and have no event yet. The host that marks one adds its event.
pub const ALERTS_NOTIFY: Sql = Sql::same(
    "UPDATE alert SET notified_at_ms = $1
    WHERE acknowledged_at_ms IS NULL AND notified_at_ms IS NULL AND first_at_ms <= $2 RETURNING *",
);
