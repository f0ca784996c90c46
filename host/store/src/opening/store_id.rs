//! The identity of the store. The store has an id, and a data folder remembers the id of the store that it
//! was used with. So an empty or foreign database is detected before anything is written to it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use uuid::Uuid;

use crate::config::WAIT_MAX;
use crate::db::{Db, Driver, Writer, args};
use crate::error::StoreError;
use crate::opening::private;
use crate::opening::sql as opening_sql;
use crate::opening::sqlite_file::SqliteFile;
use crate::store::hide_password;

const FILE: &str = "store-id";

/// The store that a data folder was used with.
#[derive(Debug, Clone)]
pub struct Remembered {
    id: String,
    file: PathBuf,
}

impl Remembered {
    /// `None` if the folder was not used yet, or only by versions that did not store the id.
    pub fn of(data_dir: &Path) -> Result<Option<Remembered>, StoreError> {
        let file = data_dir.join(FILE);
        match fs::read_to_string(&file) {
            Ok(id) => Ok(Some(Remembered { id: id.trim().to_owned(), file })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::Unusable(format!("cannot read {}: {e}", file.display()))),
        }
    }

    /// The error for a missing or empty database.
    pub fn refuse_empty(&self, what: &str) -> StoreError {
        StoreError::Unusable(format!(
            "{what}, but this host has worked with the store {id}: put it back, or restore a backup of it \
             (docs/install.md, \"Restore\"); to begin with an empty store, remove {}",
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

/// Stores the id in the data folder.
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

/// Like [`check`], for an SQLite file. The file is opened read-only, because opening it for writing would
/// change it.
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
    let db = Db::from(Driver::Sqlite { writer: Writer::lazy(pool(), options), readers });
    let checked = check(&db, known).await;
    db.close().await;
    checked
}

/// Refuses a database other than the remembered one. Runs before the migrations, so nothing is written.
pub(crate) async fn check(db: &Db, known: &Remembered) -> Result<(), StoreError> {
    let tables = db.fetch(opening_sql::OWN_TABLES, &[]).await?;
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

/// The store's id, created at its first start. A store from before stores had ids gets the remembered id.
pub(crate) async fn settle(db: &Db, known: Option<&Remembered>) -> Result<String, StoreError> {
    if let Some(id) = read(db).await? {
        return Ok(id);
    }
    let id = known.map_or_else(|| Uuid::now_v7().to_string(), |known| known.id.clone());
    db.execute(opening_sql::STORE_IDENTITY_PUT, &args! { id: id }).await?;
    let id = read(db).await?;
    id.ok_or_else(|| StoreError::Corrupt("the store has no id although one was just written".to_owned()))
}

async fn read(db: &Db) -> Result<Option<String>, StoreError> {
    let rows = db.fetch(opening_sql::STORE_IDENTITY, &[]).await?;
    rows.first().map(|row| row.text("id")).transpose()
}
