-- A version that was uploaded runs without a file of it in a plugins folder.
ALTER TABLE plugin_version ADD COLUMN uploaded_at_ms BIGINT;
-- What made the stable version stable, for the audit trail.
ALTER TABLE plugin_release ADD COLUMN cause TEXT NOT NULL DEFAULT '';
