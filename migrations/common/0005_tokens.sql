-- Who may change something over the API. Only the SHA-256 of a token is kept.
CREATE TABLE token (
    name          TEXT   NOT NULL PRIMARY KEY,
    hash          TEXT   NOT NULL UNIQUE,
    created_at_ms BIGINT NOT NULL
);
