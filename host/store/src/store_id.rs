//! Which store this is. The store has an id, and a data folder remembers the id of the store that it was used with: so an
//! empty database, and that of somebody else, are noticed before anything is written to them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use domain::scope::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use uuid::Uuid;

use crate::config::WAIT_MAX;
use crate::db::{Db, Writer};
use crate::error::StoreError;
use crate::sqlite_file::SqliteFile;
use crate::store::hide_password;
use crate::{private, sql};

const FILE: &str = "store-id";

/// The store that a data folder was used with.
#[derive(Debug, Clone)]
pub struct Remembered {
    id: String,
    file: PathBuf,
}

impl Remembered {
    /// None: the folder has not been used yet, or only by versions that did not remember.
    pub fn of(data_dir: &Path) -> Result<Option<Remembered>, StoreError> {
        let file = data_dir.join(FILE);
        match fs::read_to_string(&file) {
            Ok(id) => Ok(Some(Remembered { id: id.trim().to_owned(), file })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::Unusable(format!("cannot read {}: {e}", file.display()))),
        }
    }

    /// Why a database that is missing or holds nothing is refused.
    pub fn refuse_empty(&self, what: &str) -> StoreError {
        StoreError::Unusable(format!(
            "{what}, but this host has worked with the store {id}: put it back, or restore a backup of it \
             (docs/operating.md, \"Restore\"); to begin with an empty store, remove {}",
            self.file.display(),
            id = self.id,
        ))
    }

    fn refuse_foreign(&self, id: &str) -> StoreError {
        StoreError::Unusable(format!(
            "the database is the store {id}, but this host has worked with the store {}: check store.url, or \
             restore a backup of that store; to go on with this one, remove {}",
            self.id,
            self.file.display()
        ))
    }
}

/// Has the data folder remember this store.
pub fn remember(data_dir: &Path, id: &str) -> io::Result<()> {
    let (file, draft) = (data_dir.join(FILE), data_dir.join("store-id.new"));
    if fs::read_to_string(&file).is_ok_and(|known| known.trim() == id) {
        return Ok(());
    }
    let mut handle = private::create(&draft)?;
    handle.write_all(id.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&draft, &file)?;
    File::open(data_dir)?.sync_all()
}

/// The same for an SQLite file. It is only read: opened to be written to, it would be changed.
pub(crate) async fn check_file(url: &str, known: &Remembered) -> Result<(), StoreError> {
    let shown = hide_password(url);
    let unusable = |what: String| StoreError::Unusable(format!("SQLite at {shown:?}: {what}"));
    let file = SqliteFile::of(url).ok_or_else(|| unusable("it is no SQLite address".to_owned()))?;
    let Some(real) = file.and_then(|file| file.found()).map_err(unusable)? else {
        return Err(known.refuse_empty(&format!("SQLite at {shown:?}: there is no such file")));
    };
    let options = SqliteConnectOptions::new().filename(real).busy_timeout(WAIT_MAX).read_only(true);
    let pool = || SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX);
    let readers = pool().connect_lazy_with(options.clone());
    let db = Db::Sqlite { writer: Writer::lazy(pool(), options), readers };
    let checked = check(&db, known).await;
    db.close().await;
    checked
}

/// Refuses a database that is not the one remembered. Before it is migrated: nothing is written.
pub(crate) async fn check(db: &Db, known: &Remembered) -> Result<(), StoreError> {
    let tables = db.fetch(sql::hosts::OWN_TABLES, &[]).await?;
    let names = tables.iter().map(|row| row.text("name")).collect::<Result<Vec<String>, _>>()?;
    let has = |name: &str| names.iter().any(|known| known == name);
    if !has("_sqlx_migrations") {
        return Err(known.refuse_empty("the database has no tables of this host"));
    }
    if !has("store_identity") {
        // A backup from before stores had ids.
        return Ok(());
    }
    match read(db).await? {
        Some(id) if id != known.id => Err(known.refuse_foreign(&id)),
        _ => Ok(()),
    }
}

/// The store's id, made at its first start. One from before stores had ids takes the id that is remembered.
pub(crate) async fn settle(db: &Db, known: Option<&Remembered>) -> Result<String, StoreError> {
    if let Some(id) = read(db).await? {
        return Ok(id);
    }
    let id = known.map_or_else(|| Uuid::now_v7().to_string(), |known| known.id.clone());
    db.execute(sql::hosts::STORE_IDENTITY_PUT, &[Value::Text(id)]).await?;
    let id = read(db).await?;
    id.ok_or_else(|| StoreError::Corrupt("the store has no id after it was given one".to_owned()))
}

async fn read(db: &Db) -> Result<Option<String>, StoreError> {
    let rows = db.fetch(sql::hosts::STORE_IDENTITY, &[]).await?;
    rows.first().map(|row| row.text("id")).transpose()
}
