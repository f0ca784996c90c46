//! Detects a log that SQLite left beside a database when its host was killed. SQLite assumes that the log
//! belongs to the database and writes it over the file at that path, even if that is a restored backup. So
//! each start marks the database and records the mark in a file beside it. A log beside a database with
//! another mark is refused.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sqlx::Row;
use uuid::Uuid;

use crate::db::Writer;
use crate::opening::private;
use crate::opening::sqlite_file::{FileId, with_end};

/// Ending of the file that holds the recorded marks: the lock file of the host.
const NOTES: &str = ".host-lock";
/// The header of a database begins with this.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
/// Header bytes that say whether the database has a log (2) or none (1), for readers and for writers.
const LOG_AT: [usize; 2] = [18, 19];
const HAS_LOG: u8 = 2;
/// Counts changes of the tables. `.backup` and `VACUUM INTO` change it.
const COOKIE_AT: usize = 40;
/// Free for use by the application: `PRAGMA user_version`.
const MARK_AT: usize = 60;

/// Distinguishes a database from its backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    mark: u32,
    cookie: u32,
    file: Option<FileId>,
}

impl Mark {
    fn line(self) -> String {
        let file = self.file.map(|file| file.to_string()).unwrap_or_default();
        format!("{} {} {file}\n", self.mark, self.cookie)
    }

    fn parse(line: &str) -> Option<Mark> {
        let mut words = line.split_whitespace();
        let (mark, cookie) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Mark { mark, cookie, file: words.next().and_then(|word| word.parse().ok()) })
    }

    /// Whether a database recorded as `self` can be `found` now. Its tables may have been changed manually
    /// since.
    fn can_be(self, found: Mark) -> bool {
        let same_file = self.file.is_some() && self.file == found.file;
        self.mark == found.mark && (self.cookie == found.cookie || (self.cookie < found.cookie && same_file))
    }
}

/// Refuses a log that does not belong to the database at this real path. The log of a running host does.
pub fn check(real: &Path) -> Result<(), String> {
    let (log, index) = (with_end(real, "-wal"), with_end(real, "-shm"));
    if fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
        return Ok(());
    }
    let refused = |why: &str| {
        let (shown, log, index) = (real.display(), log.display(), index.display());
        Err(format!(
            "{log} does not belong to the database {shown} ({why}): SQLite would overwrite pages of the database with it; \
             if you restored a backup there, move {log} and {index} away and start again; \
             otherwise put back the database that they belong to"
        ))
    };
    let header = header(real).map_err(|e| format!("cannot read {}: {e}", real.display()))?;
    let Some(header) = header else {
        return refused("there is no database");
    };
    let found =
        Mark { mark: number(&header, MARK_AT), cookie: number(&header, COOKIE_AT), file: FileId::of(real) };
    if LOG_AT.iter().any(|at| header[*at] != HAS_LOG) {
        return refused("it was written without a log, like a copy by VACUUM INTO");
    }
    let notes = notes(real);
    if !notes.is_empty() && !notes.iter().any(|noted| noted.can_be(found)) {
        return refused("it is not the file that the host used last");
    }
    Ok(())
}

fn number(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_be_bytes(bytes)
}

/// The header of the database; `None` if there is no database.
fn header(real: &Path) -> io::Result<Option<[u8; HEADER_BYTES]>> {
    let mut header = [0; HEADER_BYTES];
    match File::open(real).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => Ok(header.starts_with(MAGIC).then_some(header)),
        Err(e) if [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof].contains(&e.kind()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Marks the database of a host that has just started and has exclusive access to it.
pub async fn mark(writer: &Writer, real: &Path) -> Result<(), sqlx::Error> {
    let mut conn = writer.pool().acquire().await?;
    let cookie: i64 = sqlx::query("PRAGMA schema_version").fetch_one(&mut *conn).await?.try_get(0)?;
    let cookie = u32::try_from(cookie).unwrap_or_default();
    let random = u32::from_be_bytes(Uuid::new_v4().into_bytes()[..4].try_into().unwrap_or_default());
    // Positive and of 32 bits, as SQLite stores it.
    let new = Mark { mark: (random >> 1) | 1, cookie, file: FileId::of(real) };
    // The old marks stay valid until the new mark is in the database file and the log is empty. Without
    // recorded marks, every log is accepted.
    let former = notes(real);
    if !former.is_empty() {
        write_notes(real, &[former, vec![new]].concat())?;
    }
    let pragma = format!("PRAGMA user_version = {}", new.mark);
    sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&mut *conn).await?;
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *conn).await?;
    if row.try_get::<i64, _>(0)? == 0 {
        write_notes(real, &[new])?;
    }
    Ok(())
}

fn notes(real: &Path) -> Vec<Mark> {
    let text = fs::read_to_string(with_end(real, NOTES)).unwrap_or_default();
    text.lines().filter_map(Mark::parse).collect()
}

fn write_notes(real: &Path, notes: &[Mark]) -> io::Result<()> {
    let mut file = private::create(&with_end(real, NOTES))?;
    file.write_all(notes.iter().map(|note| note.line()).collect::<String>().as_bytes())?;
    file.sync_all()
}
