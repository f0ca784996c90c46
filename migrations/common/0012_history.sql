-- Events that were taken leave after a while.
CREATE INDEX event_taken ON event (job, delivered_at_ms) WHERE delivered_at_ms IS NOT NULL;
