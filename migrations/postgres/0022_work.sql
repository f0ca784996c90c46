-- Work moves through narrow tables of its own. An open item (scheduled or awaiting) is in exactly one place: a
-- row of `due`, or an entry of one claim that carries the item's present epoch; then it is running. The other
-- items are in neither. No index of `item` contains a column that an attempt changes, so that its updates stay
-- on their page (HOT).

ALTER TABLE item RENAME TO old_item;
ALTER TABLE attempt RENAME TO old_attempt;
ALTER INDEX item_pkey RENAME TO old_item_pkey;
ALTER INDEX item_job_item_key_key RENAME TO old_item_key;
ALTER INDEX attempt_pkey RENAME TO old_attempt_pkey;
DROP INDEX item_due, item_leased, item_by_state, item_by_batch, attempt_by_job, attempt_by_run;

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
    PRIMARY KEY (id),
    UNIQUE (job, item_key)
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

INSERT INTO item (id, epoch, version, due_at_ms, run_id, seen_run_id, first_attempt_at_ms, last_attempt_at_ms,
    resolved_at_ms, created_at_ms, updated_at_ms, attempts, deferrals, crashes, series, batch_index, max_attempts,
    priority, exhausted, job, item_key, state, payload, note, error_code, error_message, resolved_by, batch_id,
    operation, created_by)
SELECT CAST(id AS UUID), CASE WHEN state = 'running' THEN epoch ELSE epoch + 1 END, version, due_at_ms,
    CAST(run_id AS UUID), CAST(seen_run_id AS UUID), first_attempt_at_ms, last_attempt_at_ms, resolved_at_ms,
    created_at_ms, updated_at_ms, attempts, deferrals, CASE WHEN state = 'running' THEN crashes - 1 ELSE crashes END,
    series, batch_index, max_attempts, priority, exhausted, job, item_key,
    CASE WHEN state IN ('waiting', 'running') THEN 'scheduled' ELSE state END, payload, note, error_code,
    error_message, resolved_by, batch_id, operation, created_by
FROM old_item;
CREATE UNIQUE INDEX item_by_batch ON item (batch_id, batch_index) WHERE batch_id IS NOT NULL;
CREATE INDEX item_by_job ON item (job, created_at_ms);

INSERT INTO due (job, priority, due_at_ms, item_id)
SELECT job, priority, due_at_ms, CAST(id AS UUID) FROM old_item WHERE state IN ('waiting', 'awaiting');
-- Work of hosts that ran before the upgrade is recovered like that of any lost host.
INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items, epochs)
SELECT CAST(attempt_id AS UUID), MIN(claimed_at_ms), MIN(lease_until_ms), COUNT(*), MIN(job), MIN(host_id), '',
    array_agg(CAST(id AS UUID) ORDER BY id), array_agg(epoch ORDER BY id)
FROM old_item WHERE state = 'running' GROUP BY attempt_id;
INSERT INTO parked (job, state, item_id, since_ms)
SELECT job, state, CAST(id AS UUID), updated_at_ms FROM old_item WHERE state IN ('manual_required', 'abandoned');
CREATE INDEX parked_by_time ON parked (state, since_ms, item_id);
CREATE INDEX parked_by_job ON parked (job, state, since_ms, item_id);
INSERT INTO counter (job, class, items)
SELECT job, class, COUNT(*) FROM (SELECT job, CASE WHEN state IN ('waiting', 'running') AND attempts = 0 THEN 'pending'
    WHEN state IN ('waiting', 'running') THEN 'retrying' ELSE state END AS class FROM old_item) AS classes
GROUP BY job, class;

CREATE TABLE batch (
    id            TEXT   NOT NULL PRIMARY KEY,
    job           TEXT   NOT NULL,
    created_by    TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL
);
INSERT INTO batch (id, job, created_by, created_at_ms)
SELECT batch_id, MIN(job), MIN(created_by), MIN(created_at_ms) FROM old_item WHERE batch_id IS NOT NULL GROUP BY batch_id;
CREATE INDEX batch_by_time ON batch (created_at_ms);

INSERT INTO attempt (item_id, epoch, claim_id, run_id, host_id, started_at_ms, ended_at_ms, wall_us, cpu_us,
    memory_bytes_max, host_calls, host_bytes, number, job, verdict, digest, error_code, error_message, note, log)
SELECT CAST(item_id AS UUID), epoch, CAST(attempt_id AS UUID), CAST(run_id AS UUID), CAST(host_id AS UUID),
    started_at_ms, ended_at_ms, wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes, number, job, verdict,
    decode(digest, 'hex'), error_code, error_message, note, log
FROM old_attempt;
CREATE INDEX attempt_by_job ON attempt (job, ended_at_ms);
CREATE INDEX attempt_by_run ON attempt (run_id, item_id, epoch) WHERE run_id IS NOT NULL;

DROP TABLE old_attempt;
DROP TABLE old_item;
