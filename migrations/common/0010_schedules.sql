-- More fates than there were: the column's check is the code's own list now.
CREATE TABLE tick_of_any_fate (
    job           TEXT   NOT NULL,
    at_ms         BIGINT NOT NULL,
    fate          TEXT   NOT NULL,
    run_id        TEXT,
    decided_at_ms BIGINT NOT NULL,
    PRIMARY KEY (job, at_ms)
);
INSERT INTO tick_of_any_fate (job, at_ms, fate, run_id, decided_at_ms)
    SELECT job, at_ms, fate, run_id, decided_at_ms FROM tick;
DROP TABLE tick;
ALTER TABLE tick_of_any_fate RENAME TO tick;
CREATE INDEX tick_buffered ON tick (job, at_ms) WHERE fate = 'buffered';
CREATE INDEX tick_paused ON tick (job, decided_at_ms) WHERE fate = 'paused';

-- Jobs that are paused; '*' is all of them.
CREATE TABLE pause (
    job       TEXT   NOT NULL PRIMARY KEY,
    since_ms  BIGINT NOT NULL,
    by_whom   TEXT   NOT NULL
);

-- The instant of the schedule that a run is for, and what a person started it with (JSON).
ALTER TABLE run ADD COLUMN scheduled_at_ms BIGINT;
ALTER TABLE run ADD COLUMN params TEXT;
