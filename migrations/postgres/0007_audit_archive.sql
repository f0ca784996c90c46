-- Which part of the trail lies in archive files. Only what does may leave the table.
CREATE TABLE audit_archive (
    file           TEXT   NOT NULL PRIMARY KEY,
    until_ms       BIGINT NOT NULL,
    records        BIGINT NOT NULL,
    sha256         TEXT   NOT NULL,
    archived_at_ms BIGINT NOT NULL
);
CREATE FUNCTION audit_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF OLD.at_ms < (SELECT MAX(until_ms) FROM tidemill.audit_archive) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only';
END $$;
DROP TRIGGER audit_no_change ON audit;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse_delete();
