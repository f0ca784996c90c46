-- Answers in a row that put the item off without counting as an attempt.
ALTER TABLE item ADD COLUMN deferrals BIGINT NOT NULL DEFAULT 0;
