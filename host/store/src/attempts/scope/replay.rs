//! The scope of a replayed attempt, which shows what the attempt would do. It reads current data, its writes
//! are recorded and undone, and nothing outside is affected.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::effect::Effect;
use domain::id::EventId;
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::lease::Hold;
use domain::limits::MIB;
use domain::plugin::Statement;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::end::explain_commit;
use super::{AttemptScope, State};
use crate::attempts::commit::Effects;
use crate::db::{Db, Driver, Tx};
use crate::error::StoreError;
use crate::store::Store;

/// How long a replay waits for locks of working attempts.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How long working attempts may have to wait for locks of a replay.
pub const HELD_MAX: Duration = Duration::from_secs(2);

/// Maximum bytes of parameters of one attempt's writing statements. They are all kept for the comparison.
const WRITTEN_BYTES_MAX: usize = 16 * MIB;

/// It cannot commit: [`ReplayScope::finish`], its only end, undoes everything.
pub struct ReplayScope {
    scope: AttemptScope,
    record: Mutex<Record>,
    /// Notified when a transaction was opened that others may have to wait for.
    opened: Notify,
}

#[derive(Default)]
struct Record {
    sql: Vec<SqlWrite>,
    sql_bytes: usize,
    requests: Vec<Request>,
}

/// A declared statement that wrote, and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlWrite {
    pub statement: Statement,
    pub params: Vec<Value>,
    /// Number of rows that it changed or returned.
    pub rows: u64,
}

/// A granted HTTP request, which was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Origin and path.
    pub place: String,
}

/// Everything that an attempt requested; none of it was carried out.
#[derive(Debug, Default)]
pub struct Asked {
    pub effects: Effects,
    pub sql: Vec<SqlWrite>,
    pub locks: Vec<String>,
    pub requests: Vec<Request>,
}

impl Store {
    /// The scope for replaying an earlier attempt, as of `now`. It needs no lease, because it has no effects.
    pub fn scope_of_replay(
        self: &Arc<Self>,
        job: Arc<JobSpec>,
        item: Claimed,
        now: Timestamp,
    ) -> ReplayScope {
        let (store, item, hold) = (self.clone(), Some(item), Hold::without_end());
        let state = tokio::sync::Mutex::default();
        let scope = AttemptScope { store, job, item, now, hold, replayed: true, state };
        ReplayScope { scope, record: Mutex::default(), opened: Notify::new() }
    }
}

impl ReplayScope {
    /// Resolves when others may have waited long enough for this attempt's locks. It has to be dropped then.
    pub async fn held_too_long(&self) {
        self.opened.notified().await;
        tokio::time::sleep(HELD_MAX).await;
    }

    /// Undoes everything and returns what the attempt requested. An error means that a commit would have been
    /// refused, so the attempt would have failed.
    pub async fn finish(&self) -> (Asked, Result<(), StoreError>) {
        let mut state = self.scope.state.lock().await;
        let mut state = std::mem::replace(&mut *state, State { ended: true, ..State::default() });
        let mut whole = state.check_whole();
        for (name, mut tx) in std::mem::take(&mut state.open) {
            if whole.is_ok() && state.wrote.contains(&name) {
                whole = tx.check_constraints().await.map_err(|e| explain_commit(&name, e.into()));
            }
            // An unreachable database rolls back on its own.
            let _ = tx.rollback().await;
        }
        let Record { sql, requests, .. } = std::mem::take(&mut *self.notes());
        let locks = std::mem::take(&mut state.locks).into_iter().collect();
        (Asked { effects: state.effects(), sql, locks, requests }, whole)
    }

    fn notes(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies `opened` if others may have to wait from this statement on. Reads in SQLite lock nothing.
    fn runs(&self, statement: &Statement, params: &[Value]) -> Result<(), ScopeError> {
        let Statement { datasource, writes, .. } = statement;
        if *writes {
            let mut notes = self.notes();
            notes.sql_bytes += params.iter().map(Value::bytes).sum::<usize>();
            if notes.sql_bytes > WRITTEN_BYTES_MAX {
                let text = format!("a replay writes at most {WRITTEN_BYTES_MAX} bytes to databases");
                return Err(ScopeError::Limit(text));
            }
        }
        let holds = *writes || self.scope.store.datasources.get(datasource).is_ok_and(Db::is_postgres);
        if holds && self.scope.may_write(datasource) {
            self.opened.notify_one();
        }
        Ok(())
    }

    fn wrote(&self, statement: &Statement, params: Vec<Value>, rows: u64) {
        if statement.writes {
            self.notes().sql.push(SqlWrite { statement: statement.clone(), params, rows });
        }
    }
}

/// Begins a transaction that may write, but waits only briefly for others' locks and holds its own only
/// briefly. SQLite has one writer. Postgres ends the transaction of a stopped host.
pub(super) async fn briefly(
    db: &Db,
    began: impl Future<Output = Result<Tx, sqlx::Error>>,
) -> Result<Tx, sqlx::Error> {
    if let Driver::Sqlite { .. } = db.driver {
        return tokio::time::timeout(WAIT_MAX, began).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    }
    let mut tx = began.await?;
    tx.wait_for_locks(WAIT_MAX).await?;
    tx.commit_within(HELD_MAX).await?;
    Ok(tx)
}

#[async_trait]
impl Scope for ReplayScope {
    fn held(&self) -> Result<(), ScopeError> {
        self.scope.held()
    }

    fn may_send(&self, method: &str, place: &str) -> Result<(), ScopeError> {
        let mut record = self.notes();
        if record.requests.len() < self.scope.job.limits.http_requests as usize {
            record.requests.push(Request { method: method.to_owned(), place: place.to_owned() });
        }
        Err(ScopeError::Denied("a replay sends no requests".to_owned()))
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        self.scope.kv_get(bucket, key).await
    }

    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError> {
        self.scope.kv_set(bucket, key, value).await
    }

    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError> {
        self.scope.kv_set_for(bucket, key, value, ttl).await
    }

    async fn kv_compare_and_set(&self, bucket: &str, key: &str, swap: Swap) -> Result<bool, ScopeError> {
        self.scope.kv_compare_and_set(bucket, key, swap).await
    }

    async fn kv_keys(&self, bucket: &str, from: u64) -> Result<Keys, ScopeError> {
        self.scope.kv_keys(bucket, from).await
    }

    async fn sql_query(&self, statement: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError> {
        self.runs(statement, &params)?;
        let answer = self.scope.sql_query(statement, params.clone()).await?;
        self.wrote(statement, params, answer.rows.len() as u64);
        Ok(answer)
    }

    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError> {
        self.runs(statement, &params)?;
        let changed = self.scope.sql_execute(statement, params.clone()).await?;
        self.wrote(statement, params, changed);
        Ok(changed)
    }

    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError> {
        self.scope.lock(name).await
    }

    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError> {
        self.scope.add(effect).await
    }
}
