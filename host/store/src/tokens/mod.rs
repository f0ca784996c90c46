//! Tokens of the API, stored as hashes.

pub(crate) mod sql;

use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::store::Store;
use crate::tokens::sql as tokens_sql;

#[derive(Debug, Clone)]
pub struct TokenView {
    pub name: String,
    pub created_at: Timestamp,
}

/// Access tokens of people and programs.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    pub(crate) store: &'a Store,
}

impl Tokens<'_> {
    pub async fn add(self, name: &str, hash: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        if tx.execute(tokens_sql::TOKEN_ADD, &args! { name: name, hash: hash, now: now }).await? != 1 {
            return Err(StoreError::Conflict(format!("there is a token {name:?} already: remove it first")));
        }
        let entry = Entry { actor: "local", action: "token_added", job: None, subject: name, detail: "" };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }

    pub async fn remove(self, name: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        if tx.execute(tokens_sql::TOKEN_REMOVE, &args! { name: name }).await? != 1 {
            return Err(StoreError::NotFound(format!("token {name:?}")));
        }
        let entry = Entry { actor: "local", action: "token_removed", job: None, subject: name, detail: "" };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }

    pub async fn list(self) -> Result<Vec<TokenView>, StoreError> {
        let view =
            |row: &Row| Ok(TokenView { name: row.text("name")?, created_at: row.time("created_at_ms")? });
        self.store.db.fetch(tokens_sql::TOKENS_LIST, &[]).await?.iter().map(view).collect()
    }

    /// The name of the token with this hash.
    pub async fn holder(self, hash: &str) -> Result<Option<String>, StoreError> {
        let rows = self.store.db.fetch(tokens_sql::TOKEN_HOLDER, &args! { hash: hash }).await?;
        rows.first().map(|row| row.text("name")).transpose()
    }
}
