-- Work moves through narrow tables of its own. An open item (scheduled or awaiting) is in exactly one place: a
-- row of `due`, or an entry of one claim that carries the item's present epoch; then it is running. The other
-- items are in neither. No index of `item` contains a column that an attempt changes, so that its updates stay
-- on their page (HOT).

ALTER TABLE item RENAME TO old_item;
ALTER TABLE attempt RENAME TO old_attempt;
ALTER INDEX item_pkey RENAME TO old_item_pkey;
ALTER INDEX item_job_item_key_key RENAME TO old_item_key;
ALTER INDEX attempt_pkey RENAME TO old_attempt_pkey;
DROP INDEX item_due, item_by_state, attempt_by_job, attempt_by_run;
ALTER INDEX item_by_batch RENAME TO old_item_by_batch;

CREATE TABLE item (
    id                  UUID     NOT NULL,
    -- The epoch of the present or next claim. Each end of an attempt increments it.
    epoch               BIGINT   NOT NULL DEFAULT 1,
    version             BIGINT   NOT NULL DEFAULT 1,
    due_at_ms           BIGINT   NOT NULL,
    -- The run that queued it and waits for its first attempt since.
    run_id              UUID,
    -- The run whose discovery saw it last.
    seen_run_id         UUID,
    first_attempt_at_ms BIGINT,
    last_attempt_at_ms  BIGINT,
    resolved_at_ms      BIGINT,
    created_at_ms       BIGINT   NOT NULL,
    updated_at_ms       BIGINT   NOT NULL,
    attempts            INTEGER  NOT NULL DEFAULT 0,
    deferrals           INTEGER  NOT NULL DEFAULT 0,
    -- Claims in a row that no end followed.
    crashes             INTEGER  NOT NULL DEFAULT 0,
    series              INTEGER  NOT NULL DEFAULT 1,
    batch_index         INTEGER,
    max_attempts        INTEGER,
    -- 0 goes ahead of new work (1): work that a lost host had begun.
    priority            SMALLINT NOT NULL DEFAULT 1 CHECK (priority IN (0, 1)),
    -- 1: its attempts ran out, and no person has decided since.
    exhausted           SMALLINT NOT NULL DEFAULT 0,
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
) WITH (fillfactor = 50);

CREATE TABLE due (
    due_at_ms BIGINT   NOT NULL,
    item_id   UUID     NOT NULL,
    priority  SMALLINT NOT NULL,
    job       TEXT     NOT NULL,
    PRIMARY KEY (job, priority, due_at_ms, item_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- One row for all items that a host took at once. Its existence is the fence of their ends.
CREATE TABLE claim (
    id             UUID    NOT NULL PRIMARY KEY,
    claimed_at_ms  BIGINT  NOT NULL,
    lease_until_ms BIGINT  NOT NULL,
    -- Its items whose attempts have not ended.
    open_items     INTEGER NOT NULL CHECK (open_items > 0),
    job            TEXT    NOT NULL,
    host_id        TEXT    NOT NULL,
    incarnation    TEXT    NOT NULL,
    items          UUID[]   NOT NULL,
    epochs         BIGINT[] NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
CREATE VIEW claimed_item AS
    SELECT claim.id AS claim_id, claim.job, claim.host_id, claim.claimed_at_ms, claim.lease_until_ms,
        entry.item_id, entry.epoch
    FROM claim CROSS JOIN LATERAL unnest(claim.items, claim.epochs) AS entry (item_id, epoch);

-- Each attempt that ended, and each that was lost.
CREATE TABLE attempt (
    item_id          UUID    NOT NULL,
    epoch            BIGINT  NOT NULL,
    claim_id         UUID    NOT NULL,
    run_id           UUID,
    host_id          UUID    NOT NULL,
    started_at_ms    BIGINT  NOT NULL,
    ended_at_ms      BIGINT  NOT NULL,
    wall_us          BIGINT  NOT NULL,
    cpu_us           BIGINT  NOT NULL,
    memory_bytes_max BIGINT  NOT NULL,
    host_calls       BIGINT  NOT NULL,
    host_bytes       BIGINT  NOT NULL,
    number           INTEGER NOT NULL,
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
    item_id  UUID   NOT NULL,
    job      TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    PRIMARY KEY (item_id)
);

-- Items of each job and class: pending, retrying, awaiting, resolved, manual_required, abandoned. Transactions add
-- changes to `counter_delta`, and one host at a time adds them up in `counter`. The sum of both is the truth.
CREATE TABLE counter (
    job   TEXT   NOT NULL,
    class TEXT   NOT NULL,
    items BIGINT NOT NULL,
    PRIMARY KEY (job, class)
) WITH (fillfactor = 50);
CREATE TABLE counter_delta (
    items BIGINT NOT NULL,
    job   TEXT   NOT NULL,
    class TEXT   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE VIEW item_count AS SELECT job, class, items FROM counter
    UNION ALL SELECT job, class, items FROM counter_delta;

ALTER TABLE run ALTER COLUMN id TYPE UUID USING CAST(id AS UUID);
ALTER TABLE run RENAME COLUMN attempt_id TO claim_id;
ALTER TABLE named_lock ALTER COLUMN item_id TYPE UUID USING CAST(item_id AS UUID);
ALTER TABLE named_lock ALTER COLUMN attempt_id TYPE UUID USING CAST(attempt_id AS UUID);
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
