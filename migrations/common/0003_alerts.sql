-- What a person should look at. Of each (job, kind, key) one alert is open: raised again, it is counted.
CREATE TABLE alert (
    id                 TEXT   NOT NULL PRIMARY KEY,
    job                TEXT   NOT NULL,
    kind               TEXT   NOT NULL,
    alert_key          TEXT   NOT NULL,
    severity           TEXT   NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    message            TEXT   NOT NULL,
    metadata           TEXT   NOT NULL,
    times              BIGINT NOT NULL DEFAULT 1,
    first_at_ms        BIGINT NOT NULL,
    last_at_ms         BIGINT NOT NULL,
    acknowledged_at_ms BIGINT,
    acknowledged_by    TEXT
);
CREATE UNIQUE INDEX alert_open ON alert (job, kind, alert_key) WHERE acknowledged_at_ms IS NULL;
CREATE INDEX alert_by_time ON alert (last_at_ms);
