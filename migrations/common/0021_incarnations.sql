-- Which start of a host its row belongs to, where that process runs, and how often it has renewed its leases.
-- A second process under the same id is recognised by them.
ALTER TABLE host ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';
ALTER TABLE host ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE host ADD COLUMN beats BIGINT NOT NULL DEFAULT 0;
