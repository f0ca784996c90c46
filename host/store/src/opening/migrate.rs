//! Upgrades a database to this version's tables, or reports that it is from a newer version.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::db::Db;
use crate::error::StoreError;
use crate::opening::schema::Schema;
use crate::opening::work_copy::{self, Report, Session};

/// One migration. Most have the same SQL for both databases.
struct Source {
    number: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($number:literal, $name:literal, $both:literal) => {
        migration!($number, $name, $both, $both)
    };
    ($number:literal, $name:literal, $sqlite:literal, $postgres:literal) => {
        Source {
            number: $number,
            name: $name,
            sqlite: include_str!(concat!("../../../../migrations/", $sqlite)),
            postgres: include_str!(concat!("../../../../migrations/", $postgres)),
        }
    };
}

const MIGRATIONS: [Source; 23] = [
    migration!(1, "init", "common/0001_init.sql"),
    migration!(2, "append only", "sqlite/0002_append_only.sql", "postgres/0002_append_only.sql"),
    migration!(3, "alerts", "common/0003_alerts.sql"),
    migration!(4, "batches", "common/0004_batches.sql"),
    migration!(5, "tokens", "common/0005_tokens.sql"),
    migration!(6, "delivery", "common/0006_delivery.sql"),
    migration!(7, "audit archive", "sqlite/0007_audit_archive.sql", "postgres/0007_audit_archive.sql"),
    migration!(8, "notices", "common/0008_notices.sql"),
    migration!(9, "run results", "common/0009_run_results.sql"),
    migration!(10, "schedules", "common/0010_schedules.sql"),
    migration!(11, "job edits", "common/0011_job_edits.sql"),
    migration!(12, "history", "common/0012_history.sql"),
    migration!(13, "locks", "common/0013_locks.sql"),
    migration!(14, "usage", "common/0014_usage.sql"),
    migration!(15, "plugin files", "common/0015_plugin_files.sql"),
    migration!(16, "releases", "common/0016_releases.sql"),
    migration!(17, "deferrals", "common/0017_deferrals.sql"),
    migration!(18, "answers", "common/0018_answers.sql"),
    migration!(19, "store identity", "common/0019_store_identity.sql"),
    migration!(20, "release causes", "common/0020_release_causes.sql"),
    migration!(21, "incarnations", "common/0021_incarnations.sql"),
    migration!(22, "work", "sqlite/0022_work.sql", "postgres/0022_work.sql"),
    migration!(23, "work copied", "common/0023_work_copied.sql"),
];
/// The migration after which [`work_copy`] copies the old rows.
pub const WORK: i64 = 22;
/// The migration that drops them.
const WORK_COPIED: i64 = 23;

#[derive(Clone, Copy)]
enum Dialect {
    Sqlite,
    Postgres,
}

pub async fn run(db: &Db, report: Report<'_>) -> Result<(), StoreError> {
    let mut session = Session::of(db).await?;
    if session.has_migration(WORK_COPIED).await? {
        return apply(&mut session, &MIGRATIONS).await;
    }
    session.begin_upgrade(report).await?;
    let upgraded = upgrade(&mut session, report).await;
    let ended = session.end_upgrade().await;
    upgraded.and(ended)
}

async fn upgrade(session: &mut Session, report: Report<'_>) -> Result<(), StoreError> {
    // Another host may have done it meanwhile.
    if !session.has_migration(WORK_COPIED).await? {
        copy_work(session, report, usize::MAX).await?;
    }
    apply(session, &MIGRATIONS).await
}

/// Runs at most `most` transactions of the copy. Returns whether it is complete.
async fn copy_work(session: &mut Session, report: Report<'_>, most: usize) -> Result<bool, StoreError> {
    let before = MIGRATIONS.iter().take_while(|source| source.number <= WORK).count();
    apply(session, &MIGRATIONS[..before]).await?;
    work_copy::run(session, report, most).await
}

/// `Migrator::run` accepts a connection only in futures that stay on their thread.
async fn apply(session: &mut Session, sources: &[Source]) -> Result<(), StoreError> {
    let result = match session {
        Session::Sqlite(connection) => {
            migrator(sources, Dialect::Sqlite).run_direct(None, &mut **connection, false).await
        }
        Session::Postgres(connection) => {
            migrator(sources, Dialect::Postgres).run_direct(None, &mut **connection, false).await
        }
    };
    result.map_err(explain)
}

/// Upgrades like [`run`], and stops after `most` transactions of the copy, as if the process was killed.
#[cfg(test)]
pub async fn run_some(db: &Db, most: usize) -> Result<bool, StoreError> {
    let quiet: Report<'_> = &|_| {};
    let mut session = Session::of(db).await?;
    session.begin_upgrade(quiet).await?;
    let copied = copy_work(&mut session, quiet, most).await;
    session.end_upgrade().await?;
    copied
}

/// Makes the tables of an older version: those of the first `count` migrations.
#[cfg(test)]
pub async fn run_first(db: &Db, count: usize) {
    let mut session = Session::of(db).await.unwrap();
    apply(&mut session, &MIGRATIONS[..count]).await.unwrap();
}

fn migrator(sources: &[Source], dialect: Dialect) -> Migrator {
    let migrations = sources.iter().map(|source| {
        let sql = match dialect {
            Dialect::Sqlite => source.sqlite,
            Dialect::Postgres => source.postgres,
        };
        let (name, kind) = (Cow::Borrowed(source.name), MigrationType::Simple);
        Migration::new(source.number, name, kind, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// A migration that a database has: number, success and checksum.
pub type Applied = (i64, bool, Vec<u8>);

pub fn compare_sqlite(applied: Vec<Applied>) -> Result<Schema, StoreError> {
    compare(&applied, &migrator(&MIGRATIONS, Dialect::Sqlite))
}

pub fn compare_postgres(applied: Vec<Applied>) -> Result<Schema, StoreError> {
    compare(&applied, &migrator(&MIGRATIONS, Dialect::Postgres))
}

fn compare(applied: &[Applied], ours: &Migrator) -> Result<Schema, StoreError> {
    for (number, success, checksum) in applied {
        let known = ours.iter().find(|ours| ours.version == *number);
        match known {
            None => return Err(explain(MigrateError::VersionMissing(*number))),
            Some(_) if !success => return Err(explain(MigrateError::Dirty(*number))),
            Some(known) if known.checksum[..] != checksum[..] => {
                return Err(explain(MigrateError::VersionMismatch(*number)));
            }
            Some(_) => {}
        }
    }
    let is_pending = |source: &&Source| applied.iter().all(|(number, ..)| *number != source.number);
    Ok(Schema {
        present: applied.iter().map(|(number, ..)| *number).max(),
        latest: LATEST,
        pending: MIGRATIONS.iter().filter(is_pending).map(|source| (source.number, source.name)).collect(),
    })
}

/// The number of the last migration.
pub const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].number;

fn explain(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(number) if number > LATEST => StoreError::Unusable(format!(
            "the database was set up by a newer tidemill (it has migration {number}, this one ends at {LATEST}): \
             run that version, or restore a copy from before the upgrade"
        )),
        MigrateError::VersionMissing(number) | MigrateError::VersionMismatch(number) => {
            StoreError::Unusable(format!(
                "migration {number} of the database is not the one of this tidemill: \
             it was set up by a different build; use that one, or a new database"
            ))
        }
        MigrateError::Dirty(number) => StoreError::Unusable(format!(
            "migration {number} was begun and not finished: restore a copy of the database from before it"
        )),
        other => StoreError::Unavailable(other.to_string()),
    }
}
