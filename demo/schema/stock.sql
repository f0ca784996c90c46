-- Campaigns that hand out stock, and the leases by which customers hold some of it.

CREATE TABLE IF NOT EXISTS campaign (
    campaign_id BIGINT PRIMARY KEY,
    user_id     BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    stock       BIGINT NOT NULL,
    stock_min   BIGINT NOT NULL,
    active      BIGINT NOT NULL DEFAULT 1
);

-- What the stock producer made for a campaign; how many there are is also which need comes next.
CREATE TABLE IF NOT EXISTS stock_batch (
    batch_id    TEXT   PRIMARY KEY,
    campaign_id BIGINT NOT NULL,
    units       BIGINT NOT NULL,
    made_at_ms  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS stock_batch_campaign ON stock_batch (campaign_id);

-- `status`: held, confirmed, expired. What is held and not confirmed in time goes back to the campaign's stock.
CREATE TABLE IF NOT EXISTS stock_lease (
    lease_id      TEXT   PRIMARY KEY,
    campaign_id   BIGINT NOT NULL,
    units         BIGINT NOT NULL,
    status        TEXT   NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    expired_by    TEXT
);

-- Records of batches that were made up for: each once.
CREATE TABLE IF NOT EXISTS compensation (
    record_key TEXT   PRIMARY KEY,
    operation  TEXT   NOT NULL,
    done_at_ms BIGINT NOT NULL
);
