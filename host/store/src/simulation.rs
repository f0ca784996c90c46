//! Access for the simulator (feature `simulation`, never enabled in shipped builds): a hook that changes
//! statements, queries for an observer, and a process restart on the same connections.

use domain::scope::Value;

pub use crate::db::sql::REWRITE;
use crate::db::{Db, Most};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// The rows of a reading statement on the store.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        Store::rows(&self.db, sql).await
    }

    /// The same on a business database.
    pub async fn query_business(&self, datasource: &str, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        Store::rows(self.business(datasource)?, sql).await
    }

    fn business(&self, datasource: &str) -> Result<&Db, StoreError> {
        self.datasources.get(datasource).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn rows(db: &Db, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut tx = db.begin_read().await?;
        let rows = tx.fetch_declared(sql, &[], Most::ALL).await?;
        Ok(rows.into_iter().map(crate::db::Row::into_values).collect())
    }

    /// Runs a statement on a business database and commits it.
    pub async fn execute_business(&self, datasource: &str, sql: &str) -> Result<(), StoreError> {
        let mut tx = self.business(datasource)?.begin().await?;
        tx.execute_declared(sql, &[]).await?;
        tx.commit().await
    }

    /// Simulates a restart after a kill: the process forgets its claims.
    pub fn forget_claims(&self) {
        self.held_claims.lock().clear();
    }
}
