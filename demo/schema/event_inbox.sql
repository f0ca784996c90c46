-- Events as received by other systems: each once, by its id.
CREATE TABLE IF NOT EXISTS event_inbox (
    id            TEXT   PRIMARY KEY,
    topic         TEXT   NOT NULL,
    event_key     TEXT   NOT NULL,
    payload       TEXT   NOT NULL,
    job           TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL
);
