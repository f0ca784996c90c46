//! The one writer of an SQLite file: priorities of waiting writes, and recovery after a failed write.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection, Row, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::guard::{Gone, Guard};
use super::{WritePriority, round_trips};
use crate::config::WAIT_MAX;

#[derive(Debug, Clone)]
pub struct Writer {
    pool: SqlitePool,
    gates: Gates,
    /// `None` for a datasource: its owner handles failed writes.
    doubts: Option<Arc<Doubts>>,
    guard: Watched,
}

/// The guard of the store's file, once it is set. A datasource has none.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<OnceLock<Guard>>);

impl Watched {
    fn check(&self) -> Result<(), Gone> {
        self.0.get().map_or(Ok(()), Guard::check)
    }
}

/// Counts failed writes, and those after which the log was checkpointed. Failures of an earlier process count
/// as one.
#[derive(Debug)]
struct Doubts {
    failures: AtomicU64,
    settled: AtomicU64,
}

impl Doubts {
    /// The number of failures, if there are new ones.
    fn open(&self) -> Option<u64> {
        let failures = self.failures.load(Ordering::Acquire);
        (failures > self.settled.load(Ordering::Acquire)).then_some(failures)
    }
}

/// Orders waiting writes by priority, because on a slow disk many may wait. A write waits for at most one
/// write of each kind with lower priority.
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

    /// Commits; the gates open whether it succeeds or not. Fails if the file was lost meanwhile.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        round_trips::count();
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
    /// The writer of a store, whose acknowledged writes must be durable.
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

    /// The writer of a database that belongs to someone else.
    pub fn lazy(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Writer {
        Writer {
            pool: one(pool).connect_lazy_with(options),
            gates: Gates::default(),
            doubts: None,
            guard: Watched::default(),
        }
    }

    /// Sets the guard: from now on, reads and writes fail once the file was replaced.
    pub fn watch(&self, guard: Guard) {
        // The guard is set only once.
        let _ = self.guard.0.set(guard);
    }

    pub fn guard(&self) -> Option<&Guard> {
        self.guard.0.get()
    }

    /// Fails if the open file is no longer the one at the path.
    pub fn check(&self) -> Result<(), sqlx::Error> {
        Ok(self.guard.check()?)
    }

    pub async fn begin(&self, turn: WritePriority) -> Result<Writing, sqlx::Error> {
        self.check()?;
        let gates = self.gates.pass(turn).await?;
        loop {
            // A deferred BEGIN would fail with SQLITE_BUSY_SNAPSHOT when it writes later.
            round_trips::count();
            let tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            // Checked after the begin, because the begin detects that the last write failed.
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

    /// Closes all connections. The last one to close removes the log at the file's path. If the file was
    /// replaced, that log belongs to another database, so then the connections stay open until the process
    /// ends.
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

    /// Checkpoints the log into the database file and truncates it. After a failed sync, the kernel may show
    /// data that is not on disk, and later syncs do not report it. A commit after such a gap in the log would
    /// be lost in a power cut. So the checkpoint runs before anything else is acknowledged, also at a start,
    /// because the process before may have ended with such a failure.
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
    async fn pass(&self, turn: WritePriority) -> Result<Vec<OwnedMutexGuard<()>>, sqlx::Error> {
        let gates: &[_] = match turn {
            WritePriority::Renewal => &[],
            WritePriority::Work => &[&self.work],
            WritePriority::Request => &[&self.requests, &self.work],
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

/// Whether the driver agrees that no transaction is open. SQLite rolls back on its own when the disk is full
/// or fails. The driver's own ROLLBACK then fails, and it would refuse every later BEGIN.
pub fn agrees(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}
