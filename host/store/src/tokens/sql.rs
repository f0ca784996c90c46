//! Statements on tokens.

use crate::db::sql::Sql;

pub const TOKEN_ADD: Sql = Sql::same(
    "INSERT INTO token (name, hash, created_at_ms) VALUES (:name, :hash, :now) ON CONFLICT (name) DO NOTHING",
);

pub const TOKEN_REMOVE: Sql = Sql::same("DELETE FROM token WHERE name = :name");

pub const TOKENS_LIST: Sql = Sql::same("SELECT name, created_at_ms FROM token ORDER BY name");

pub const TOKEN_HOLDER: Sql = Sql::same("SELECT name FROM token WHERE hash = :hash");
