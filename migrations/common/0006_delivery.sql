-- Where an event that a sink takes stands on its way: tried so often, due again then, or given up.
ALTER TABLE event ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN due_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN dead_at_ms BIGINT;
ALTER TABLE event ADD COLUMN error TEXT;
CREATE INDEX event_by_key ON event (topic, event_key, created_at_ms, seq) WHERE delivered_at_ms IS NULL;
