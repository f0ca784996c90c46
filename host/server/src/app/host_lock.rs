//! The identity of a host: one process at a time holds its folder and its SQLite file, and its
//! id outlives the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use domain::id::HostId;
use jiff::Timestamp;
use store::hosts::HostLocation;
use store::opening::private;
use store::opening::sqlite_file::{SqliteFile, with_end};
use store::opening::store_id::Remembered;
use store::store::hide_password;

/// Held until dropped; the kernel releases it when the process ends in any way. It is dropped after the store
/// is closed, because SQLite loses its locks on a file when the process closes any handle on that file.
#[derive(Debug)]
pub struct HostLock {
    _files: Vec<File>,
    place: HostLocation,
}

impl HostLock {
    /// Locks the data folder, and the store's file if it is SQLite.
    pub fn take(data_dir: &Path, store_url: &str) -> anyhow::Result<HostLock> {
        private::make_folder(data_dir)
            .with_context(|| format!("cannot make the data folder {}", data_dir.display()))?;
        let mut files = vec![lock(&data_dir.join("host.lock"), "data folder", data_dir)?];
        let mut place = place(&files[0]);
        for path in ["", "host-id", "host.lock", "store-id"] {
            private::tighten(&data_dir.join(path));
        }
        if let Some(file) = SqliteFile::of(store_url) {
            let shown = hide_password(store_url);
            if let (Ok(file), Some(known)) = (&file, Remembered::of(data_dir)?)
                && file.is_empty()
            {
                let what = format!("SQLite at {shown:?}: the file is missing or empty");
                return Err(known.refuse_empty(&what).into());
            }
            let made = file.and_then(|file| file.make());
            let database = made.map_err(|what| anyhow!("SQLite at {shown:?}: {what}"))?;
            files.extend(lock_database(&database)?);
            SqliteFile::tighten(&database);
            place = HostLocation::WholeStore;
        }
        Ok(HostLock { _files: files, place })
    }

    /// Where this process runs, as far as this lock excludes others.
    pub fn place(&self) -> HostLocation {
        self.place.clone()
    }
}

/// The boot id of the machine, with the device and inode of the lock file: a copy of the folder has another lock file.
fn place(lock: &File) -> HostLocation {
    match (std::fs::read_to_string(BOOT_ID), lock.metadata()) {
        (Ok(boot), Ok(meta)) => {
            HostLocation::Folder(format!("{}/{}/{}", boot.trim(), meta.dev(), meta.ino()))
        }
        _ => HostLocation::Unknown,
    }
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Locks a file beside the database, as every version of this host does, and the database itself, which has
/// other names if there are hard links. The kernel keeps these locks separate from those of SQLite.
fn lock_database(database: &Path) -> anyhow::Result<[File; 2]> {
    let beside = lock(&with_end(database, ".host-lock"), "SQLite store", database)?;
    let handle = File::open(database).with_context(|| format!("cannot read {}", database.display()))?;
    Ok([beside, locked(handle, "SQLite store", database)?])
}

fn lock(file: &Path, what: &str, of: &Path) -> anyhow::Result<File> {
    let handle = private::open(OpenOptions::new().create(true).truncate(false).write(true), file)
        .with_context(|| format!("cannot open {}; is its folder writable?", file.display()))?;
    locked(handle, what, of)
}

fn locked(handle: File, what: &str, of: &Path) -> anyhow::Result<File> {
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => bail!(
            "another tidemill uses the {what} {}: stop it, or give this host its own \
             (several hosts share work through a Postgres store)",
            of.display()
        ),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", of.display())),
    }
}

/// The id of the host with the folder `data_dir`, created at its first start.
pub fn host_id(data_dir: &Path, now: Timestamp) -> anyhow::Result<HostId> {
    let file = data_dir.join("host-id");
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().with_context(|| {
            format!("{} holds no id: restore it, or remove it to become a new host", file.display())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let id = HostId::new(now);
            write_whole(&file, &id.to_string())
                .with_context(|| format!("cannot write {}; is its disk full?", file.display()))?;
            Ok(id)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes the whole text or, on failure, no file.
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    let draft = file.with_extension("new");
    let mut handle = private::create(&draft)?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    std::fs::rename(&draft, file)
}
