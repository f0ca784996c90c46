-- Whether an alert was told outside, as an event.
ALTER TABLE alert ADD COLUMN notified_at_ms BIGINT;
