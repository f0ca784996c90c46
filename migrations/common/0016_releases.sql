-- Which version of a plugin runs on all hosts, and which one is to take over.
CREATE TABLE plugin_release (
    plugin         TEXT   NOT NULL PRIMARY KEY,
    -- None: a person took the plugin out of use.
    stable         TEXT,
    since_ms       BIGINT NOT NULL,
    candidate      TEXT,
    stage          TEXT   CHECK (stage IN ('waiting', 'canary')),
    stage_since_ms BIGINT,
    -- What the candidate asks for that the stable version does not, a line each.
    wants          TEXT   NOT NULL DEFAULT '',
    CHECK ((candidate IS NULL) = (stage IS NULL) AND (candidate IS NULL) = (stage_since_ms IS NULL))
);

-- What attempts came to while two versions ran side by side, over all hosts.
CREATE TABLE plugin_trial (
    plugin   TEXT   NOT NULL,
    digest   TEXT   NOT NULL,
    attempts BIGINT NOT NULL,
    failed   BIGINT NOT NULL,
    cpu_us   BIGINT NOT NULL,
    PRIMARY KEY (plugin, digest)
);

-- Versions may stand elsewhere, too; when one last became what runs, and why it may not any more.
CREATE TABLE plugin_version_new (
    plugin         TEXT   NOT NULL,
    digest         TEXT   NOT NULL,
    size_bytes     BIGINT NOT NULL,
    version        TEXT   NOT NULL,
    summary        TEXT   NOT NULL,
    state          TEXT   NOT NULL CHECK (state IN ('active', 'canary', 'waiting', 'retired', 'rejected')),
    reason         TEXT,
    host_id        TEXT   NOT NULL,
    seen_at_ms     BIGINT NOT NULL,
    asks           TEXT   NOT NULL DEFAULT '',
    released_at_ms BIGINT,
    quarantine     TEXT,
    PRIMARY KEY (plugin, digest)
);
INSERT INTO plugin_version_new
    (plugin, digest, size_bytes, version, summary, state, reason, host_id, seen_at_ms, asks, released_at_ms)
    SELECT plugin, digest, size_bytes, version, summary, state, reason, host_id, seen_at_ms, asks,
        CASE WHEN state = 'rejected' THEN NULL ELSE seen_at_ms END
    FROM plugin_version;
DROP TABLE plugin_version;
ALTER TABLE plugin_version_new RENAME TO plugin_version;
