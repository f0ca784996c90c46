-- What an attempt used beside time and memory.
ALTER TABLE attempt ADD COLUMN cpu_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN host_calls BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN host_bytes BIGINT NOT NULL DEFAULT 0;
