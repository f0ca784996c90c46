-- What versions are made of, so that one can run again, and on a host whose folder does not hold it.
CREATE TABLE plugin_file (
    plugin      TEXT   NOT NULL,
    digest      TEXT   NOT NULL,
    bytes       BYTEA  NOT NULL,
    signature   TEXT,
    kept_at_ms  BIGINT NOT NULL,
    PRIMARY KEY (plugin, digest)
);

-- A plugin whose version was decided by a person: no folder changes it.
CREATE TABLE plugin_pin (
    plugin   TEXT   NOT NULL PRIMARY KEY,
    digest   TEXT   NOT NULL,
    by_whom  TEXT   NOT NULL,
    since_ms BIGINT NOT NULL
);

-- What a version asks for, in JSON; empty if it could not be asked.
ALTER TABLE plugin_version ADD COLUMN asks TEXT NOT NULL DEFAULT '';
