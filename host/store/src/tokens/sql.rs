//! Statements on tokens.

use crate::db::sql::Sql;

pub const TOKEN_ADD: Sql = Sql::same(
    "INSERT INTO token (name, hash, created_at_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
);

pub const TOKEN_REMOVE: Sql = Sql::same("DELETE FROM token WHERE name = $1");

pub const TOKENS_LIST: Sql = Sql::same("SELECT name, created_at_ms FROM token ORDER BY name");

pub const TOKEN_HOLDER: Sql = Sql::same("SELECT name FROM token WHERE hash = $1");
