-- Named locks. The row of a free lock stays, because its token only grows.
CREATE TABLE named_lock (
    name        TEXT   NOT NULL PRIMARY KEY,
    token       BIGINT NOT NULL,
    -- An attempt's lock is held for as long as the attempt holds its item …
    item_id     TEXT,
    epoch       BIGINT,
    attempt_id  TEXT,
    -- … anybody else's until this time.
    until_ms    BIGINT,
    -- For people.
    holder      TEXT   NOT NULL,
    taken_at_ms BIGINT NOT NULL
);
CREATE INDEX named_lock_item ON named_lock (item_id) WHERE item_id IS NOT NULL;

-- Values that end.
ALTER TABLE kv ADD COLUMN expires_at_ms BIGINT;
CREATE INDEX kv_expiry ON kv (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
