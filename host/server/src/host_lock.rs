//! What makes a host one host: its folder and its SQLite file are held by one process at a time,
//! and its id outlives the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use domain::id::HostId;
use jiff::Timestamp;

/// Held until dropped; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct HostLock {
    _files: Vec<File>,
}

impl HostLock {
    /// Takes the data folder, and the store's file if it is SQLite.
    pub fn take(data_dir: &Path, store_url: &str) -> anyhow::Result<HostLock> {
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("cannot make the data folder {}", data_dir.display()))?;
        let mut files = vec![lock(&data_dir.join("host.lock"), "data folder", data_dir)?];
        if let Some(database) = sqlite_file(store_url) {
            if let Some(folder) = database.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            }
            let mut name = database.clone().into_os_string();
            name.push(".host-lock");
            files.push(lock(Path::new(&name), "SQLite store", &database)?);
        }
        Ok(HostLock { _files: files })
    }
}

fn lock(file: &Path, what: &str, of: &Path) -> anyhow::Result<File> {
    let handle = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .with_context(|| format!("cannot open {}; is its folder writable?", file.display()))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => bail!(
            "another tidemill uses the {what} {}: stop it, or give this host its own \
             (several hosts share work through a Postgres store)",
            of.display()
        ),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", file.display())),
    }
}

fn sqlite_file(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    let path = path.split('?').next().unwrap_or_default();
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

/// The id of the host that lives in `data_dir`, made at its first start.
pub fn host_id(data_dir: &Path, now: Timestamp) -> anyhow::Result<HostId> {
    let file = data_dir.join("host-id");
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().with_context(|| {
            format!("{} holds no id: restore it, or remove it to become a new host", file.display())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let id = HostId::new(now);
            write_whole(&file, &id.to_string())
                .with_context(|| format!("cannot write {}; has its disk room?", file.display()))?;
            Ok(id)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Either the whole text is there afterwards, or no file.
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    let draft = file.with_extension("new");
    let mut handle = File::create(&draft)?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    std::fs::rename(&draft, file)
}
