-- Orders whose amount is split and paid out, and the ledger postings that they cause.

CREATE TABLE IF NOT EXISTS payout_account (
    account TEXT   PRIMARY KEY,
    state   TEXT   NOT NULL
);

-- `changed_by` is the idempotency key of the attempt that changed a row last. After a crash, a repeated
-- attempt recognises its own changes by it. Finalizing an order has two steps: post it to the ledger, then
-- pay it out. `ledger_posted` and `paid_out` are 0 or 1.
CREATE TABLE IF NOT EXISTS split_order (
    order_id               BIGINT PRIMARY KEY,
    account                TEXT   NOT NULL,
    amount_minor           BIGINT NOT NULL,
    currency               TEXT   NOT NULL,
    status                 TEXT   NOT NULL,
    finalize_in_progress   BIGINT NOT NULL DEFAULT 0,
    finalize_started_at_ms BIGINT,
    ledger_posted          BIGINT NOT NULL DEFAULT 0,
    paid_out               BIGINT NOT NULL DEFAULT 0,
    finalize_attempts      BIGINT NOT NULL DEFAULT 0,
    last_finalize_error    TEXT,
    stuck_recoveries       BIGINT NOT NULL DEFAULT 0,
    changed_by             TEXT,
    updated_at_ms          BIGINT NOT NULL
);

-- `status`: pending, published. `posting_key` prevents duplicate postings.
CREATE TABLE IF NOT EXISTS ledger_outbox (
    posting_key     TEXT   PRIMARY KEY,
    order_id        BIGINT NOT NULL,
    account         TEXT   NOT NULL,
    amount_minor    BIGINT NOT NULL,
    currency        TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    published_at_ms BIGINT,
    published_by    TEXT
);
