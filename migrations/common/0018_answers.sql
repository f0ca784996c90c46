-- Answers to requests that came with an Idempotency-Key: sent again, such a request gets the same answer.
-- A row is written in the transaction of what the request does.
CREATE TABLE answer (
    actor          TEXT   NOT NULL,
    request_key    TEXT   NOT NULL,
    request_sha256 TEXT   NOT NULL,
    status         BIGINT NOT NULL,
    location       TEXT,
    body           BYTEA  NOT NULL,
    created_at_ms  BIGINT NOT NULL,
    PRIMARY KEY (actor, request_key)
);
CREATE INDEX answer_by_time ON answer (created_at_ms);
