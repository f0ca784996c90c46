-- Which part of the trail lies in archive files. Only what does may leave the table.
CREATE TABLE audit_archive (
    file           TEXT   NOT NULL PRIMARY KEY,
    until_ms       BIGINT NOT NULL,
    records        BIGINT NOT NULL,
    sha256         TEXT   NOT NULL,
    archived_at_ms BIGINT NOT NULL
);
DROP TRIGGER audit_no_delete;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.at_ms >= COALESCE((SELECT MAX(until_ms) FROM audit_archive), OLD.at_ms)
BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
