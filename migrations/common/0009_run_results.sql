-- 1: its attempts ran out, and nobody has decided since. A job may begin it anew when it is found again.
ALTER TABLE item ADD COLUMN exhausted BIGINT NOT NULL DEFAULT 0;
-- The run whose discovery had found the item when the attempt began: what became of a run is read from its attempts.
ALTER TABLE attempt ADD COLUMN run_id TEXT;
CREATE INDEX attempt_by_run ON attempt (run_id, item_id, epoch) WHERE run_id IS NOT NULL;
