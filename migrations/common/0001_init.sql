-- The tables of Tidemill, in the subset that SQLite and Postgres share (see README.md).

CREATE TABLE host (
    id              TEXT   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL,
    started_at_ms   BIGINT NOT NULL,
    heartbeat_at_ms BIGINT NOT NULL,
    stopped_at_ms   BIGINT
);

-- A job's place in its schedule. What it is stands in the configuration.
CREATE TABLE job (
    name          TEXT   NOT NULL PRIMARY KEY,
    plugin        TEXT   NOT NULL,
    schedule      TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    ticked_at_ms  BIGINT NOT NULL
);

-- Each due instant of a schedule and what became of it: the key lets it happen once over all hosts.
CREATE TABLE tick (
    job           TEXT   NOT NULL,
    at_ms         BIGINT NOT NULL,
    fate          TEXT   NOT NULL CHECK (fate IN ('ran', 'overlap', 'coalesced')),
    run_id        TEXT,
    decided_at_ms BIGINT NOT NULL,
    PRIMARY KEY (job, at_ms)
);

CREATE TABLE run (
    id                TEXT   NOT NULL PRIMARY KEY,
    job               TEXT   NOT NULL,
    started_by        TEXT   NOT NULL,
    state             TEXT   NOT NULL CHECK (state IN ('discovering', 'running', 'finished', 'failed')),
    epoch             BIGINT NOT NULL DEFAULT 0,
    attempt_id        TEXT,
    host_id           TEXT,
    lease_until_ms    BIGINT,
    crashes           BIGINT NOT NULL DEFAULT 0,
    page_cursor       TEXT,
    found             BIGINT NOT NULL DEFAULT 0,
    queued            BIGINT NOT NULL DEFAULT 0,
    waiting           BIGINT NOT NULL DEFAULT 0,
    over_cap          BIGINT NOT NULL DEFAULT 0,
    manual            BIGINT NOT NULL DEFAULT 0,
    absent            BIGINT NOT NULL DEFAULT 0,
    done              BIGINT NOT NULL DEFAULT 0,
    failed            BIGINT NOT NULL DEFAULT 0,
    error_code        TEXT,
    error_message     TEXT,
    digest            TEXT,
    created_at_ms     BIGINT NOT NULL,
    discovered_at_ms  BIGINT,
    finished_at_ms    BIGINT
);
CREATE INDEX run_by_job ON run (job, created_at_ms);
CREATE INDEX run_open ON run (job) WHERE state IN ('discovering', 'running');

CREATE TABLE item (
    id                  TEXT   NOT NULL PRIMARY KEY,
    job                 TEXT   NOT NULL,
    item_key            TEXT   NOT NULL,
    payload             TEXT   NOT NULL,
    state               TEXT   NOT NULL CHECK (state IN
        ('waiting', 'running', 'awaiting', 'resolved', 'manual_required', 'abandoned')),
    -- 0 goes ahead of new work (1): what a lost host had begun.
    priority            BIGINT NOT NULL DEFAULT 1,
    due_at_ms           BIGINT NOT NULL,
    attempts            BIGINT NOT NULL DEFAULT 0,
    -- Claims in a row that no ending followed; counted at the claim, so a crash cannot escape it.
    crashes             BIGINT NOT NULL DEFAULT 0,
    series              BIGINT NOT NULL DEFAULT 1,
    -- The fence: with the attempt id it must match in every write of an attempt.
    epoch               BIGINT NOT NULL DEFAULT 0,
    attempt_id          TEXT,
    host_id             TEXT,
    lease_until_ms      BIGINT,
    claimed_at_ms       BIGINT,
    -- The run that queued it and waits for its first attempt since.
    run_id              TEXT,
    -- The run whose discovery saw it last.
    seen_run_id         TEXT,
    note                TEXT,
    error_code          TEXT,
    error_message       TEXT,
    first_attempt_at_ms BIGINT,
    last_attempt_at_ms  BIGINT,
    created_at_ms       BIGINT NOT NULL,
    updated_at_ms       BIGINT NOT NULL,
    version             BIGINT NOT NULL DEFAULT 1,
    UNIQUE (job, item_key)
);
CREATE INDEX item_due ON item (job, priority, due_at_ms, created_at_ms) WHERE state IN ('waiting', 'awaiting');
CREATE INDEX item_leased ON item (lease_until_ms) WHERE state = 'running';
CREATE INDEX item_by_state ON item (job, state);

-- Each attempt that ended, and each that was lost: with the audit table the trail of all that happened.
CREATE TABLE attempt (
    item_id          TEXT   NOT NULL,
    epoch            BIGINT NOT NULL,
    attempt_id       TEXT   NOT NULL,
    job              TEXT   NOT NULL,
    item_key         TEXT   NOT NULL,
    number           BIGINT NOT NULL,
    verdict          TEXT   NOT NULL,
    error_code       TEXT,
    error_message    TEXT,
    note             TEXT,
    log              TEXT   NOT NULL,
    host_id          TEXT   NOT NULL,
    digest           TEXT,
    started_at_ms    BIGINT NOT NULL,
    ended_at_ms      BIGINT NOT NULL,
    wall_us          BIGINT NOT NULL,
    memory_bytes_max BIGINT NOT NULL,
    PRIMARY KEY (item_id, epoch)
);
CREATE INDEX attempt_by_job ON attempt (job, ended_at_ms);

-- The outbox: events leave with the outcome of their attempt, and stay until someone has taken them.
CREATE TABLE event (
    id              TEXT   NOT NULL PRIMARY KEY,
    seq             BIGINT NOT NULL,
    topic           TEXT   NOT NULL,
    event_key       TEXT   NOT NULL,
    payload         TEXT   NOT NULL,
    job             TEXT   NOT NULL,
    item_id         TEXT   NOT NULL,
    epoch           BIGINT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    delivered_at_ms BIGINT
);
CREATE INDEX event_pending ON event (topic, created_at_ms, seq) WHERE delivered_at_ms IS NULL;

CREATE TABLE kv (
    job           TEXT   NOT NULL,
    bucket        TEXT   NOT NULL,
    kv_key        TEXT   NOT NULL,
    value         BYTEA  NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (job, bucket, kv_key)
);

-- Attempts started in the current window of a job with a rate.
CREATE TABLE rate (
    job             TEXT   NOT NULL PRIMARY KEY,
    window_start_ms BIGINT NOT NULL,
    used            BIGINT NOT NULL
);

CREATE TABLE plugin_version (
    plugin     TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    size_bytes BIGINT NOT NULL,
    version    TEXT   NOT NULL,
    summary    TEXT   NOT NULL,
    state      TEXT   NOT NULL CHECK (state IN ('active', 'retired', 'rejected')),
    reason     TEXT,
    host_id    TEXT   NOT NULL,
    seen_at_ms BIGINT NOT NULL,
    PRIMARY KEY (plugin, digest)
);

-- Who did what, beside attempts. No foreign keys: a trail outlives what it speaks of.
CREATE TABLE audit (
    id      TEXT   NOT NULL PRIMARY KEY,
    at_ms   BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    job     TEXT,
    subject TEXT   NOT NULL,
    detail  TEXT   NOT NULL
);
CREATE INDEX audit_by_time ON audit (at_ms);
