-- Users, their wallets' addresses on three chains, and the status of the key generation that creates them.

CREATE TABLE IF NOT EXISTS user_account (
    user_id          BIGINT PRIMARY KEY,
    account_sequence BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS wallet_address (
    user_id BIGINT NOT NULL,
    chain   TEXT   NOT NULL,
    address TEXT   NOT NULL,
    PRIMARY KEY (user_id, chain)
);

CREATE TABLE IF NOT EXISTS keygen_status (
    user_id       BIGINT PRIMARY KEY,
    status        TEXT   NOT NULL,
    session_id    TEXT,
    request_key   TEXT,
    updated_at_ms BIGINT
);

-- Requests that the MPC service has received.
CREATE TABLE IF NOT EXISTS mpc_session (
    session_id     TEXT   PRIMARY KEY,
    user_id        BIGINT NOT NULL,
    outcome        TEXT   NOT NULL,
    received_at_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS mpc_session_user ON mpc_session (user_id);
