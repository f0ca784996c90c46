//! Statements on the database itself and on the identity of the store.

use crate::db::sql::{Sql, postgres, sqlite};

pub const NOW: Sql = Sql::differs(sqlite::NOW, postgres::NOW);

pub const VERSION: Sql = Sql::differs(sqlite::VERSION, postgres::VERSION);

pub const OWN_TABLES: Sql = Sql::differs(sqlite::OWN_TABLES, postgres::OWN_TABLES);

pub const STORE_IDENTITY: Sql = Sql::same("SELECT id FROM store_identity WHERE one = 1");

pub const STORE_IDENTITY_PUT: Sql =
    Sql::same("INSERT INTO store_identity (one, id) VALUES (1, :id) ON CONFLICT (one) DO NOTHING");
