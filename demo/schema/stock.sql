-- Campaigns that distribute stock, and the leases with which customers hold some of it.

CREATE TABLE IF NOT EXISTS campaign (
    campaign_id BIGINT PRIMARY KEY,
    user_id     BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    stock       BIGINT NOT NULL,
    stock_min   BIGINT NOT NULL,
    active      BIGINT NOT NULL DEFAULT 1
);

-- Batches that the stock producer made for a campaign. Their number determines the key of the next need.
CREATE TABLE IF NOT EXISTS stock_batch (
    batch_id    TEXT   PRIMARY KEY,
    campaign_id BIGINT NOT NULL,
    units       BIGINT NOT NULL,
    made_at_ms  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS stock_batch_campaign ON stock_batch (campaign_id);

-- `status`: held, confirmed, expired. Stock that is not confirmed in time returns to its campaign.
CREATE TABLE IF NOT EXISTS stock_lease (
    lease_id      TEXT   PRIMARY KEY,
    campaign_id   BIGINT NOT NULL,
    units         BIGINT NOT NULL,
    status        TEXT   NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    expired_by    TEXT
);

-- Records of batches whose operation was repeated: each once.
CREATE TABLE IF NOT EXISTS compensation (
    record_key TEXT   PRIMARY KEY,
    operation  TEXT   NOT NULL,
    done_at_ms BIGINT NOT NULL
);
