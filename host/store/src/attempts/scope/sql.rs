//! Runs a declared statement of an attempt in its transaction on the datasource.

use domain::job::Access;
use domain::plugin::Statement;
use domain::scope::{ScopeError, Value};

use super::{AttemptScope, replay};
use crate::attempts::datasource::explain;
use crate::db::{Db, Driver, Most, Tx};
use crate::error::{is_contention, with_remedy};

impl AttemptScope {
    /// Runs one declared statement in this attempt's transaction on its datasource, within the limits.
    pub(super) async fn run(
        &self,
        statement: &Statement,
        params: Vec<Value>,
        rows: bool,
    ) -> Result<StatementResult, ScopeError> {
        let Statement { datasource, writes, .. } = statement;
        if let Some(why) = self.job.grants.refuses_sql(datasource, *writes) {
            return Err(ScopeError::Denied(why));
        }
        let limits = &self.job.limits;
        let mut state = self.state.lock().await;
        self.check_open(&state)?;
        state.statements += 1;
        if state.statements > limits.sql_statements {
            let text = format!("more than {} statements in an attempt", limits.sql_statements);
            return Err(ScopeError::Limit(text));
        }
        if params.iter().map(Value::bytes).sum::<usize>() > limits.sql_bytes {
            return Err(ScopeError::Limit(format!("parameters of more than {} bytes", limits.sql_bytes)));
        }
        if state.undone.contains(datasource) {
            let text = format!("a statement of this attempt on datasource {datasource:?} failed");
            return Err(ScopeError::Database(format!("{text}: its transaction is undone")));
        }
        let db = self.store.datasources.get(datasource)?;
        // SQLite has one write lock. Reads before the attempt's first write must not hold it, or anything
        // else, because a plugin may call a slow service before it continues.
        let early = !*writes
            && matches!(db.driver, Driver::Sqlite { .. })
            && self.may_write(datasource)
            && !state.open.contains_key(datasource);
        let mut tx = match state.open.remove(datasource) {
            Some(tx) => tx,
            None => self.begin(db, datasource, !early).await?,
        };
        // Undone until it is known to have worked: a caller that drops this call has undone it, too.
        state.undone.insert(datasource.clone());
        let most = Most { rows: limits.sql_rows, bytes: limits.sql_bytes.saturating_sub(state.bytes) };
        let work = async {
            tx.cut_off_after(limits.sql_time).await?;
            if rows {
                tx.fetch_declared(&statement.sql, &params, most).await.map(StatementResult::Rows)
            } else {
                tx.execute_declared(&statement.sql, &params).await.map(StatementResult::Changed)
            }
        };
        // A failed or cancelled statement leaves its transaction unusable, so it is not put back.
        let ran = tokio::time::timeout(limits.sql_time, work).await.map_err(|_| {
            ScopeError::Limit(format!("the statement took longer than {:?}", limits.sql_time))
        })?;
        if let Err(error) = &ran
            && is_contention(error)
        {
            state.contended = Some(format!("datasource {datasource:?}: {error}"));
        }
        let ran = ran.map_err(explain)?;
        state.undone.remove(datasource);
        if *writes {
            state.wrote.insert(datasource.clone());
        }
        if !early {
            state.open.insert(datasource.clone(), tx);
        }
        Ok(ran)
    }

    pub(super) fn may_write(&self, datasource: &str) -> bool {
        self.item.is_some() && self.job.grants.datasources.get(datasource) == Some(&Access::ReadWrite)
    }

    async fn begin(&self, db: &Db, datasource: &str, to_write: bool) -> Result<Tx, ScopeError> {
        let writes = to_write && self.may_write(datasource);
        let time = self.job.limits.sql_time;
        // Writes to the store's own database are committed with the outcome, which is fenced.
        let began = match &self.item {
            Some(_) if self.replayed && writes => replay::briefly(db, db.begin_declared(true, time)).await,
            Some(item) if writes && !self.store.datasources.is_own(datasource) => {
                db.begin_declared_after(&format!("item {}", item.id), time).await
            }
            _ => db.begin_declared(writes, time).await,
        };
        began.map_err(|e| ScopeError::Unavailable(format!("datasource {datasource:?}: {}", with_remedy(&e))))
    }
}

pub(super) enum StatementResult {
    Rows(Vec<crate::db::Row>),
    Changed(u64),
}
