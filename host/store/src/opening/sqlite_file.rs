//! The file of an SQLite database. Only this module parses its address, for all code that opens, locks,
//! compares or shows the file: a path is taken literally, and `%41` in it is three characters.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::num::ParseIntError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use domain::address::split_file;
use sqlx::sqlite::SqliteConnectOptions;

use crate::opening::{leftover, private};

/// The identity of a file. All paths to a file have the same one, through links and in other mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` if there is no such file.
    pub fn of(path: &Path) -> Option<FileId> {
        fs::metadata(path).ok().map(|file| FileId { device: file.dev(), inode: file.ino() })
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl FromStr for FileId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<FileId, ParseIntError> {
        let (device, inode) = text.split_once(':').unwrap_or((text, ""));
        Ok(FileId { device: device.parse()?, inode: inode.parse()? })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteFile {
    path: PathBuf,
    parameters: String,
}

impl SqliteFile {
    /// `None` if the address is of another kind of database.
    pub fn of(url: &str) -> Option<Result<SqliteFile, String>> {
        let (path, parameters) = split_file(url)?;
        Some(SqliteFile::new(Path::new(path), parameters))
    }

    /// A relative path starts at the working directory.
    pub fn new(path: &Path, parameters: &str) -> Result<SqliteFile, String> {
        let in_memory =
            |pair: &str| ["mode=memory", "vfs=memdb"].contains(&pair.to_ascii_lowercase().as_str());
        if path == Path::new("") || path == Path::new(":memory:") || parameters.split('&').any(in_memory) {
            return Err("a database in memory is gone with its process: name a file".to_owned());
        }
        let path =
            std::path::absolute(path).map_err(|e| format!("the path {path:?} cannot be resolved: {e}"))?;
        check_text(&path)?;
        Ok(SqliteFile { path, parameters: parameters.to_owned() })
    }

    /// The address of this file.
    pub fn url(&self) -> String {
        let name_has_mark = self.path.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'?'));
        let mark = if name_has_mark || !self.parameters.is_empty() { "?" } else { "" };
        format!("sqlite://{}{mark}{}", self.path.display(), self.parameters)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current identity of the file; `None` if there is no file.
    pub fn id(&self) -> Option<FileId> {
        FileId::of(&self.path)
    }

    /// Whether both are the same file, also if it does not exist yet.
    pub fn is_same(&self, other: &SqliteFile) -> bool {
        let ids = (self.id(), other.id());
        (ids.0.is_some() && ids.0 == ids.1) || real_path(&self.path) == real_path(&other.path)
    }

    /// Creates the file and its folder if they do not exist. Returns the file's path with all links resolved.
    pub fn make(&self) -> Result<PathBuf, String> {
        if self.path.is_dir() {
            return Err("it is a folder: name a file in it".to_owned());
        }
        if let Some(folder) = self.path.parent() {
            private::make_folder(folder).map_err(|e| {
                format!(
                    "cannot make the folder {}: {e}; name one that this user may make and write to",
                    folder.display()
                )
            })?;
        }
        leftover::check(&real_path(&self.path))?;
        let real = self.made().map_err(|e| {
            format!(
                "cannot make {}: {e}; check that its folder is writable for this user",
                self.path.display()
            )
        })?;
        check_text(&real)?;
        leftover::check(&real)?;
        Ok(real)
    }

    /// The path of an existing file with all links resolved. The file is not changed.
    pub fn found(&self) -> Result<Option<PathBuf>, String> {
        let real = real_path(&self.path);
        leftover::check(&real)?;
        check_text(&real)?;
        Ok(real.is_file().then_some(real))
    }

    /// Whether there is no file, or an empty one.
    pub fn is_empty(&self) -> bool {
        fs::metadata(&self.path).map_or(true, |file| file.is_file() && file.len() == 0)
    }

    /// Does not open an existing file: closing it would release the locks that SQLite has on it in this
    /// process.
    fn made(&self) -> std::io::Result<PathBuf> {
        match self.path.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Follows a link, as SQLite would.
                private::open(OpenOptions::new().create(true).append(true), &self.path)?;
                self.path.canonicalize()
            }
            result => result,
        }
    }

    /// Removes access of other users to the database at this real path, and to the files that SQLite creates
    /// beside it.
    pub fn tighten(real: &Path) {
        for end in ["", "-wal", "-shm", "-journal", ".host-lock"] {
            private::tighten(&with_end(real, end));
        }
    }

    pub(crate) fn options(&self) -> Result<SqliteConnectOptions, sqlx::Error> {
        // The driver would decode a path in an address, so it gets only the parameters.
        let options: SqliteConnectOptions = format!("sqlite://file?{}", self.parameters).parse()?;
        Ok(options.in_memory(false).filename(&self.path))
    }
}

impl fmt::Display for SqliteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The path of a file beside the database: the database's path with `end` appended.
pub fn with_end(real: &Path, end: &str) -> PathBuf {
    let mut name = real.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// SQLite takes paths as text.
fn check_text(path: &Path) -> Result<(), String> {
    match path.to_str() {
        None => Err(format!("the path {path:?} is not UTF-8, which SQLite needs: rename the folder or file")),
        Some(text) if text.contains('\0') => Err("the path has a NUL in it: remove that".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Resolves links as far as the path exists.
fn real_path(path: &Path) -> PathBuf {
    let real = |ancestor: &Path| {
        let rest = path.strip_prefix(ancestor).ok()?;
        let real = ancestor.canonicalize().ok()?;
        Some(if rest == Path::new("") { real } else { real.join(rest) })
    };
    path.ancestors().find_map(real).unwrap_or_else(|| path.to_owned())
}
