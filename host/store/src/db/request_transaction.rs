//! One transaction for a whole request. The transactions of the store's functions become its parts, and all
//! of them are committed together with the response, or none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::engine_event::EngineEvent;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use super::arg::{Arg, Args};
use super::{Db, Open, Row, WritePriority};
use crate::db::sql::Sql;
use crate::error::StoreError;

tokio::task_local! {
    static WHOLE: RequestTx;
}

/// How long the first statement waits for another host that works on the same request.
const WAIT_FOR_OTHERS: &str = "SET LOCAL lock_timeout TO 2000";
const WAIT_AS_EVER: &str = "SET LOCAL lock_timeout TO DEFAULT";
/// SQLSTATE lock_not_available: the wait above timed out.
const LOCK_TIMEOUT: &str = "55P03";

/// The statement that opens the transaction. If it changes no row, the request must not be carried out.
pub struct First {
    pub sql: Sql,
    pub args: Vec<(&'static str, Arg)>,
}

/// The transaction of one request. The first function that writes opens it.
#[derive(Clone)]
pub struct RequestTx {
    first: Arc<First>,
    slot: Arc<Mutex<Option<Slot>>>,
    refused: Arc<AtomicBool>,
}

pub struct Slot {
    open: Open,
    /// The last part was not committed. It is rolled back before the next statement.
    undo: bool,
    /// The events of the committed parts.
    events: Vec<EngineEvent>,
}

impl From<Open> for Slot {
    fn from(open: Open) -> Slot {
        Slot { open, undo: false, events: Vec::new() }
    }
}

/// The part that one function of the store begins and commits.
pub struct Part(OwnedMappedMutexGuard<Option<Slot>, Slot>);

impl RequestTx {
    pub fn new(first: First) -> RequestTx {
        RequestTx { first: Arc::new(first), slot: Arc::default(), refused: Arc::default() }
    }

    /// The transaction of the current task's request, if it has one.
    pub fn current() -> Option<RequestTx> {
        WHOLE.try_with(Clone::clone).ok()
    }

    /// Runs `work` so that all its writes are parts of this transaction.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        WHOLE.scope(self.clone(), work).await
    }

    /// Whether the first statement changed no row: the same request was, or is being, carried out elsewhere.
    pub fn refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    pub async fn begin(&self, db: &Db) -> Result<Part, sqlx::Error> {
        let mut slot = self.take()?;
        if slot.is_none() {
            *slot = Some(self.open(db).await?.into());
        }
        let part = OwnedMutexGuard::try_map(slot, Option::as_mut);
        let mut part = Part(part.map_err(|_| sqlx::Error::WorkerCrashed)?);
        part.0.settle().await?;
        part.0.open.control("SAVEPOINT part").await?;
        part.0.undo = true;
        Ok(part)
    }

    /// Fetches the rows of a reading statement. Returns `None` if nothing was written yet, or a part is open.
    pub async fn fetch(&self, sql: Sql, args: Args<'_>) -> Option<Result<Vec<Row>, StoreError>> {
        let mut slot = self.take().ok()?;
        let slot = slot.as_mut()?;
        let rows = async {
            slot.settle().await?;
            slot.open.fetch(sql, args).await
        };
        Some(rows.await.map_err(StoreError::from))
    }

    /// Rolls back everything at once.
    pub async fn roll_back(&self) -> Result<(), sqlx::Error> {
        match self.take()?.take() {
            Some(slot) => slot.open.rollback().await,
            None => Ok(()),
        }
    }

    /// Commits all parts together with one last statement, and publishes their events.
    pub async fn commit(&self, db: &Db, last: Sql, args: Args<'_>) -> Result<(), sqlx::Error> {
        let mut slot = match self.take()?.take() {
            Some(slot) => slot,
            None => self.open(db).await?.into(),
        };
        slot.settle().await?;
        slot.open.execute(last, args).await?;
        slot.open.commit().await?;
        db.feed.publish(slot.events);
        Ok(())
    }

    fn take(&self) -> Result<OwnedMutexGuard<Option<Slot>>, sqlx::Error> {
        let nested = |_| sqlx::Error::Protocol("a request began two transactions at once".to_owned());
        self.slot.clone().try_lock_owned().map_err(nested)
    }

    async fn open(&self, db: &Db) -> Result<Open, sqlx::Error> {
        let mut open = db.open(WritePriority::Request).await?;
        let postgres = matches!(open, Open::Postgres(_));
        if postgres {
            open.control(WAIT_FOR_OTHERS).await?;
        }
        let changed = open.execute(self.first.sql, &self.first.args).await;
        let busy = |e: &sqlx::Error| {
            e.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == LOCK_TIMEOUT)
        };
        match changed {
            Ok(1..) => {}
            Err(error) if !busy(&error) => return Err(error),
            _ => {
                self.refused.store(true, Ordering::Release);
                open.rollback().await?;
                return Err(sqlx::Error::Protocol("the request is carried out elsewhere".to_owned()));
            }
        }
        if postgres {
            open.control(WAIT_AS_EVER).await?;
        }
        Ok(open)
    }
}

impl Slot {
    async fn settle(&mut self) -> Result<(), sqlx::Error> {
        if self.undo {
            self.open.control("ROLLBACK TO SAVEPOINT part").await?;
            self.undo = false;
        }
        Ok(())
    }
}

impl Part {
    pub fn open(&mut self) -> &mut Open {
        &mut self.0.open
    }

    pub async fn commit(mut self, events: Vec<EngineEvent>) -> Result<(), sqlx::Error> {
        self.0.open.control("RELEASE SAVEPOINT part").await?;
        self.0.undo = false;
        self.0.events.extend(events);
        Ok(())
    }
}
