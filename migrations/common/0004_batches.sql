-- Items that were handed in together. `max_attempts` goes before the job's own bound.
ALTER TABLE item ADD COLUMN batch_id TEXT;
ALTER TABLE item ADD COLUMN batch_index BIGINT;
ALTER TABLE item ADD COLUMN operation TEXT;
ALTER TABLE item ADD COLUMN created_by TEXT;
ALTER TABLE item ADD COLUMN max_attempts BIGINT;
ALTER TABLE item ADD COLUMN resolved_at_ms BIGINT;
ALTER TABLE item ADD COLUMN resolved_by TEXT;
CREATE UNIQUE INDEX item_by_batch ON item (batch_id, batch_index) WHERE batch_id IS NOT NULL;
