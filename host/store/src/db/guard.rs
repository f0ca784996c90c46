//! Checks that the path of an SQLite store still leads to the open file. SQLite does not check this: it
//! continues to use a file that was removed or replaced, and all later writes are lost.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use crate::opening::sqlite_file::{FileId, with_end};

#[derive(Debug)]
pub struct Guard {
    /// The path with all links resolved.
    real: PathBuf,
    /// Each path that leads to a file of the store, with that file's identity.
    files: Vec<(PathBuf, FileId)>,
    /// Keeps SQLite from removing its log, which it does when the last connection is closed.
    held: Mutex<Option<SqliteConnection>>,
    released: AtomicBool,
}

/// Describes how the store's file was lost.
#[derive(Debug)]
pub struct Gone(String);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Gone {}

impl From<Gone> for sqlx::Error {
    fn from(gone: Gone) -> sqlx::Error {
        sqlx::Error::Io(std::io::Error::other(gone))
    }
}

impl Guard {
    /// `named` is the path in the configuration; `options` open the file at its real path.
    pub async fn new(named: &Path, real: &Path, options: SqliteConnectOptions) -> Result<Guard, sqlx::Error> {
        let mut held = options.read_only(true).connect().await?;
        // SQLite opens the log only when a statement reads.
        sqlx::query("SELECT COUNT(*) FROM sqlite_schema").execute(&mut held).await?;
        let paths = [named.to_owned(), real.to_owned(), with_end(real, "-wal"), with_end(real, "-shm")];
        let known = |path: PathBuf| FileId::of(&path).map(|id| (path, id));
        let files = paths.into_iter().filter_map(known).collect();
        let guard = Guard {
            real: real.to_owned(),
            files,
            held: Mutex::new(Some(held)),
            released: AtomicBool::new(false),
        };
        guard.check()?;
        Ok(guard)
    }

    pub fn real(&self) -> &Path {
        &self.real
    }

    /// Identity of the store's file.
    pub fn id(&self) -> Option<FileId> {
        self.files.iter().find(|(path, _)| *path == self.real).map(|(_, id)| *id)
    }

    /// Fails if one of the files was removed, renamed or replaced. Always passes after [`Guard::release`],
    /// because SQLite itself removes the log at the end.
    pub fn check(&self) -> Result<(), Gone> {
        if self.released.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.id().is_none() {
            return Err(self.gone(&self.real, "was removed"));
        }
        for (path, id) in &self.files {
            match FileId::of(path) {
                Some(now) if now == *id => {}
                Some(_) => return Err(self.gone(path, "was replaced by another file")),
                None => return Err(self.gone(path, "was removed or renamed")),
            }
        }
        Ok(())
    }

    fn gone(&self, path: &Path, what: &str) -> Gone {
        Gone(format!(
            "the store's file {} {what} while the host has it open: nothing is acknowledged until it is back; \
             put back that very file, or stop the host and restore a backup",
            path.display()
        ))
    }

    /// Closes the held connection, which is read-only. Call this before the other connections are closed: the
    /// last one to close has to write.
    pub async fn release(&self) -> Result<(), sqlx::Error> {
        self.released.store(true, Ordering::Release);
        match self.held.lock().await.take() {
            Some(held) => held.close().await,
            None => Ok(()),
        }
    }
}
