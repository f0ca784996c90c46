-- Work moves through narrow tables of its own. An open item (scheduled or awaiting) is in exactly one place: a
-- row of `due`, or an entry of one claim that carries the item's present epoch; then it is running. The other
-- items are in neither. No index of `item` contains a column that an attempt changes, because an end would
-- have to write each of them.

ALTER TABLE item RENAME TO old_item;
ALTER TABLE attempt RENAME TO old_attempt;
DROP INDEX item_due;
DROP INDEX item_by_state;
DROP INDEX item_by_batch;
DROP INDEX attempt_by_job;
DROP INDEX attempt_by_run;

CREATE TABLE item (
    id                  TEXT     NOT NULL,
    -- The epoch of the present or next claim. Each end of an attempt increments it.
    epoch               BIGINT   NOT NULL DEFAULT 1,
    version             BIGINT   NOT NULL DEFAULT 1,
    due_at_ms           BIGINT   NOT NULL,
    -- The run that queued it and waits for its first attempt since.
    run_id              TEXT,
    -- The run whose discovery saw it last.
    seen_run_id         TEXT,
    first_attempt_at_ms BIGINT,
    last_attempt_at_ms  BIGINT,
    resolved_at_ms      BIGINT,
    created_at_ms       BIGINT   NOT NULL,
    updated_at_ms       BIGINT   NOT NULL,
    attempts            BIGINT  NOT NULL DEFAULT 0,
    deferrals           BIGINT  NOT NULL DEFAULT 0,
    -- Claims in a row that no end followed.
    crashes             BIGINT  NOT NULL DEFAULT 0,
    series              BIGINT  NOT NULL DEFAULT 1,
    batch_index         BIGINT,
    max_attempts        BIGINT,
    -- 0 goes ahead of new work (1): work that a lost host had begun.
    priority            BIGINT NOT NULL DEFAULT 1 CHECK (priority IN (0, 1)),
    -- 1: its attempts ran out, and no person has decided since.
    exhausted           BIGINT NOT NULL DEFAULT 0,
    job                 TEXT     NOT NULL,
    item_key            TEXT     NOT NULL,
    state               TEXT     NOT NULL CHECK (state IN
        ('scheduled', 'awaiting', 'resolved', 'manual_required', 'abandoned')),
    payload             TEXT     NOT NULL,
    note                TEXT,
    error_code          TEXT,
    error_message       TEXT,
    resolved_by         TEXT,
    batch_id            TEXT,
    operation           TEXT,
    created_by          TEXT,
    PRIMARY KEY (id)
);

CREATE TABLE due (
    due_at_ms BIGINT   NOT NULL,
    item_id   TEXT     NOT NULL,
    priority  BIGINT NOT NULL,
    job       TEXT     NOT NULL,
    PRIMARY KEY (job, priority, due_at_ms, item_id)
);

-- One row for all items that a host took at once. Its existence is the fence of their ends.
CREATE TABLE claim (
    id             TEXT    NOT NULL PRIMARY KEY,
    claimed_at_ms  BIGINT  NOT NULL,
    lease_until_ms BIGINT  NOT NULL,
    -- Its items whose attempts have not ended.
    open_items     BIGINT NOT NULL CHECK (open_items > 0),
    job            TEXT    NOT NULL,
    host_id        TEXT    NOT NULL,
    incarnation    TEXT    NOT NULL,
    -- JSON: [[item id, epoch], …].
    items          TEXT    NOT NULL
);
CREATE VIEW claimed_item AS
    SELECT claim.id AS claim_id, claim.job, claim.host_id, claim.claimed_at_ms, claim.lease_until_ms,
        entry.value ->> 0 AS item_id, entry.value ->> 1 AS epoch
    FROM claim CROSS JOIN json_each(claim.items) AS entry;

-- Each attempt that ended, and each that was lost.
CREATE TABLE attempt (
    item_id          TEXT    NOT NULL,
    epoch            BIGINT  NOT NULL,
    claim_id         TEXT    NOT NULL,
    run_id           TEXT,
    host_id          TEXT    NOT NULL,
    started_at_ms    BIGINT  NOT NULL,
    ended_at_ms      BIGINT  NOT NULL,
    wall_us          BIGINT  NOT NULL,
    cpu_us           BIGINT  NOT NULL,
    memory_bytes_max BIGINT  NOT NULL,
    host_calls       BIGINT  NOT NULL,
    host_bytes       BIGINT  NOT NULL,
    number           BIGINT NOT NULL,
    job              TEXT    NOT NULL,
    verdict          TEXT    NOT NULL,
    digest           BYTEA,
    error_code       TEXT,
    error_message    TEXT,
    note             TEXT,
    log              TEXT    NOT NULL,
    PRIMARY KEY (item_id, epoch)
);

-- Items that wait for a person, or that a person gave up.
CREATE TABLE parked (
    since_ms BIGINT NOT NULL,
    item_id  TEXT   NOT NULL,
    job      TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    PRIMARY KEY (item_id)
);

-- Items of each job and class: pending, retrying, awaiting, resolved, manual_required, abandoned.
CREATE TABLE counter (
    job   TEXT   NOT NULL,
    class TEXT   NOT NULL,
    items BIGINT NOT NULL,
    PRIMARY KEY (job, class)
);

CREATE VIEW item_count AS SELECT job, class, items FROM counter;

ALTER TABLE run RENAME COLUMN attempt_id TO claim_id;
ALTER TABLE named_lock RENAME COLUMN attempt_id TO claim_id;

CREATE TABLE batch (
    id            TEXT   NOT NULL PRIMARY KEY,
    job           TEXT   NOT NULL,
    created_by    TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- Where the copy of the old rows stands (host/store/src/opening/work_copy): each of its transactions also moves this
-- row. The indexes of the new tables are built after it, and migration 23 drops the old tables and this one.
CREATE TABLE work_copy (
    one            BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Steps that are complete.
    step           BIGINT NOT NULL,
    -- The last row that the present step copied.
    item_id        TEXT   NOT NULL,
    epoch          BIGINT NOT NULL,
    items          BIGINT NOT NULL,
    attempts       BIGINT NOT NULL,
    items_total    BIGINT NOT NULL,
    attempts_total BIGINT NOT NULL
);
INSERT INTO work_copy (one, step, item_id, epoch, items, attempts, items_total, attempts_total)
SELECT 1, 0, '', 0, 0, 0, (SELECT COUNT(*) FROM old_item), (SELECT COUNT(*) FROM old_attempt);
