//! The one writer of an SQLite file: whose turn it is, and what comes before the next write after one that failed.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, Row, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Turn;
use super::guard::{Gone, Guard};
use crate::config::WAIT_MAX;

#[derive(Debug, Clone)]
pub struct Writer {
    pool: SqlitePool,
    gates: Gates,
    /// None: it is for the file's owner to care.
    doubts: Option<Arc<Doubts>>,
    guard: Watched,
}

/// The guard of the file, once there is one: that of a datasource has none.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<OnceLock<Guard>>);

impl Watched {
    fn check(&self) -> Result<(), Gone> {
        self.0.get().map_or(Ok(()), Guard::check)
    }
}

/// Writes that failed, and how many of them the log was carried over after. What a former process did counts as one.
#[derive(Debug)]
struct Doubts {
    failures: AtomicU64,
    settled: AtomicU64,
}

impl Doubts {
    /// How many there were, if there are new ones.
    fn open(&self) -> Option<u64> {
        let failures = self.failures.load(Ordering::Acquire);
        (failures > self.settled.load(Ordering::Acquire)).then_some(failures)
    }
}

/// A write on a slow disk takes its time, and a hundred may wait. Each kind waits for one of the kinds behind it at most.
#[derive(Debug, Clone, Default)]
struct Gates {
    requests: Arc<Mutex<()>>,
    work: Arc<Mutex<()>>,
}

/// A transaction, and the gates that open when it ends.
pub struct Writing {
    tx: Transaction<'static, Sqlite>,
    _gates: Vec<OwnedMutexGuard<()>>,
    guard: Watched,
}

impl Writing {
    pub fn reading(tx: Transaction<'static, Sqlite>) -> Writing {
        Writing { tx, _gates: Vec::new(), guard: Watched::default() }
    }

    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.tx.rollback().await
    }

    /// The gates open when the commit is over, however it ended. One into a file that is gone by then does not count.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await?;
        Ok(self.guard.check()?)
    }
}

impl Deref for Writing {
    type Target = Transaction<'static, Sqlite>;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl Writer {
    /// For a database that holds what was promised.
    pub async fn durable(options: SqliteConnectOptions) -> Result<Writer, sqlx::Error> {
        let doubts = Arc::new(Doubts { failures: AtomicU64::new(1), settled: AtomicU64::new(0) });
        let (seen, guard) = (doubts.clone(), Watched::default());
        let watched = guard.clone();
        let pool = SqlitePoolOptions::new().after_connect(move |_, _| {
            let checked = watched.check();
            Box::pin(async move { Ok(checked?) })
        });
        let pool = pool.before_acquire(move |connection, _| {
            let sound = agrees(connection);
            seen.failures.fetch_add(u64::from(!sound), Ordering::AcqRel);
            Box::pin(async move { Ok(sound) })
        });
        let pool = one(pool).connect_with(options).await?;
        Ok(Writer { pool, gates: Gates::default(), doubts: Some(doubts), guard })
    }

    /// For a database of somebody else.
    pub fn lazy(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Writer {
        Writer {
            pool: one(pool).connect_lazy_with(options),
            gates: Gates::default(),
            doubts: None,
            guard: Watched::default(),
        }
    }

    /// From now on, nothing is read or written once the file is another one.
    pub fn watch(&self, guard: Guard) {
        // It is set once.
        let _ = self.guard.0.set(guard);
    }

    pub fn guard(&self) -> Option<&Guard> {
        self.guard.0.get()
    }

    /// Fails if the file is not the one that is open any more.
    pub fn check(&self) -> Result<(), sqlx::Error> {
        Ok(self.guard.check()?)
    }

    pub async fn begin(&self, turn: Turn) -> Result<Writing, sqlx::Error> {
        self.check()?;
        let gates = self.gates.pass(turn).await?;
        loop {
            // A deferred BEGIN that writes later fails with SQLITE_BUSY_SNAPSHOT at once.
            let tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            // Looked at after the begin: it is what finds out that the last write failed.
            let Some((doubts, failures)) =
                self.doubts.as_ref().and_then(|doubts| Some((doubts, doubts.open()?)))
            else {
                self.check()?;
                return Ok(Writing { tx, _gates: gates, guard: self.guard.clone() });
            };
            tx.rollback().await?;
            self.carry_over().await?;
            doubts.settled.fetch_max(failures, Ordering::AcqRel);
        }
    }

    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The last connection that is closed removes the log at the path of the file. That is another's by now if the file
    /// was replaced, so then the connections stay open until the process ends.
    pub async fn close(&self, readers: &SqlitePool) {
        if let Err(error) = self.check() {
            tracing::warn!(%error, "the store is not closed");
            std::mem::forget((self.clone(), readers.clone()));
            return;
        }
        if let Some(guard) = self.guard()
            && let Err(error) = guard.release().await
        {
            tracing::warn!(%error, "a connection to the store was not closed well");
        }
        readers.close().await;
        self.pool.close().await;
    }

    /// After a sync that failed, the kernel may show what the disk does not have, and no later sync tells of it. A
    /// commit behind such a gap in the log would be gone after a power cut. So the log is written once more, into the
    /// database's own file, and begun anew, before anything else is promised; at a start, too: the process before this
    /// one may have ended by such a failure.
    async fn carry_over(&self) -> Result<(), sqlx::Error> {
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await?;
        if row.try_get::<i64, _>(0)? != 0 {
            return Err(sqlx::Error::Protocol(
                "another process reads the database (a backup?): nothing is written until it has ended"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl Gates {
    async fn pass(&self, turn: Turn) -> Result<Vec<OwnedMutexGuard<()>>, sqlx::Error> {
        let gates: &[_] = match turn {
            Turn::Renewal => &[],
            Turn::Work => &[&self.work],
            Turn::Request => &[&self.requests, &self.work],
        };
        let pass = async {
            let mut passed = Vec::with_capacity(gates.len());
            for gate in gates {
                passed.push((*gate).clone().lock_owned().await);
            }
            passed
        };
        tokio::time::timeout(WAIT_MAX, pass).await.map_err(|_| sqlx::Error::PoolTimedOut)
    }
}

fn one(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    pool.max_connections(1).acquire_timeout(WAIT_MAX)
}

/// Whether the driver knows that the last transaction is over. SQLite rolls back by itself when the disk is full or
/// fails; the driver's own ROLLBACK then fails, and it would refuse every BEGIN from there on.
pub fn agrees(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}
