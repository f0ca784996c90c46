//! Statements on the stored responses of idempotent requests.

use crate::db::sql::Sql;

/// Claims a key of an actor. Changes no row if the key was already claimed at `:kept_since` or later.
pub const ANSWER_CLAIM: Sql = Sql::same(
    "INSERT INTO answer (actor, request_key, request_sha256, status, location, body, created_at_ms)
    VALUES (:actor, :key, :sha256, 0, NULL, :body, :now)
    ON CONFLICT (actor, request_key) DO UPDATE SET request_sha256 = excluded.request_sha256, status = 0,
        location = NULL, body = excluded.body, created_at_ms = excluded.created_at_ms
    WHERE answer.created_at_ms < :kept_since",
);
pub const ANSWER_PUT: Sql = Sql::same(
    "UPDATE answer SET status = :status, location = :location, body = :body WHERE actor = :actor AND request_key = :key",
);
pub const ANSWER_GET: Sql = Sql::same(
    "SELECT * FROM answer WHERE actor = :actor AND request_key = :key AND created_at_ms >= :kept_since",
);
pub const ANSWERS_PRUNE: Sql = Sql::same("DELETE FROM answer WHERE created_at_ms < :kept_since");
