//! Statements on the stored responses of idempotent requests.

use crate::db::sql::Sql;

/// Claims the key $2 of an actor. Changes no row if the key was already claimed at $6 or later.
pub const ANSWER_CLAIM: Sql = Sql::same(
    "INSERT INTO answer (actor, request_key, request_sha256, status, location, body, created_at_ms)
    VALUES ($1, $2, $3, 0, NULL, $4, $5)
    ON CONFLICT (actor, request_key) DO UPDATE SET request_sha256 = excluded.request_sha256, status = 0,
        location = NULL, body = excluded.body, created_at_ms = excluded.created_at_ms
    WHERE answer.created_at_ms < $6",
);
pub const ANSWER_PUT: Sql = Sql::same(
    "UPDATE answer SET status = $3, location = $4, body = $5 WHERE actor = $1 AND request_key = $2",
);
pub const ANSWER_GET: Sql =
    Sql::same("SELECT * FROM answer WHERE actor = $1 AND request_key = $2 AND created_at_ms >= $3");
pub const ANSWERS_PRUNE: Sql = Sql::same("DELETE FROM answer WHERE created_at_ms < $1");
