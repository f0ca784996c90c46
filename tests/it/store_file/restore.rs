//! What a host may find in place of its store at its start: no file, another store, a backup, an old log.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use test_support::needs;

use super::Folder;
use crate::support::database::{Databases, Kind};
use crate::support::http;

const NOOP: &str = "[jobs.noop]\nplugin = \"noop\"\n";
const MANUAL: &str = include_str!("../../../docs/install.md");

/// Runs a statement on an SQLite file, as its owner would.
async fn sqlite(file: &Path, statement: &str) {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

/// Makes a copy while the host runs.
async fn vacuum_into(store: &Path, copy: &Path) {
    sqlite(store, &format!("VACUUM INTO '{}'", copy.display())).await;
}

/// Creates the same file as `.backup` of the command line `sqlite3`: the same pages, and a change counter
/// that starts at 1.
async fn backup(store: &Path, copy: &Path) {
    vacuum_into(store, copy).await;
    let mut bytes = fs::read(copy).unwrap();
    bytes[18..20].copy_from_slice(&[2, 2]);
    bytes[40..44].copy_from_slice(&1_u32.to_be_bytes());
    fs::write(copy, bytes).unwrap();
}

async fn has(folder: &Folder, key: &str) -> bool {
    http::get(folder.address, &format!("/api/v1/items/noop/{key}")).await.status == 200
}

fn store(folder: &Folder) -> PathBuf {
    folder.path("data/tidemill.db")
}

fn beside(folder: &Folder, end: &str) -> PathBuf {
    folder.path(&format!("data/tidemill.db{end}"))
}

#[tokio::test]
async fn an_empty_store_is_refused_where_one_existed() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("site"), NOOP);
    folder.serve().await.terminate().await;
    let file = store(&folder).display().to_string();
    let parts = [file.as_str(), "this host has worked with the store ", "restore a backup", "remove "];

    fs::remove_file(store(&folder)).unwrap();
    folder.refused(&parts).await;
    assert!(!store(&folder).exists(), "nothing was made");
    fs::remove_file(beside(&folder, ".host-lock")).unwrap();
    folder.refused(&parts).await;
    fs::write(store(&folder), "").unwrap();
    folder.refused(&parts).await;
    assert_eq!(fs::metadata(store(&folder)).unwrap().len(), 0, "nothing was written");
    // A database without the host's tables.
    sqlite(&store(&folder), "CREATE TABLE other (id TEXT)").await;
    let before = fs::read(store(&folder)).unwrap();
    folder.refused(&["has no tables of this host", "this host has worked with the store ", "remove "]).await;
    assert_eq!(fs::read(store(&folder)).unwrap()[100..], before[100..], "nothing was written");

    // The remedy.
    fs::remove_file(store(&folder)).unwrap();
    fs::remove_file(folder.path("data/store-id")).unwrap();
    folder.serve().await.terminate().await;
}

#[tokio::test]
async fn a_foreign_store_is_refused() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let (one, other) =
        (Folder::new(dir.path().join("one"), NOOP), Folder::new(dir.path().join("other"), NOOP));
    one.serve().await.terminate().await;
    other.serve().await.terminate().await;
    fs::copy(store(&other), store(&one)).unwrap();
    let before = fs::read(store(&one)).unwrap();
    one.refused(&[
        "the database is the store ",
        "but this host has worked with the store ",
        "check store.url",
        "store-id",
    ])
    .await;
    assert_eq!(fs::read(store(&one)).unwrap(), before, "nothing was written");
    fs::remove_file(one.path("data/store-id")).unwrap();
    one.serve().await.terminate().await;
}

#[tokio::test]
async fn a_postgres_database_that_is_empty_or_foreign_is_refused() {
    needs!(Product, Postgres);
    let (databases, other) = (Databases::new(Kind::Postgres).await, Databases::new(Kind::Postgres).await);
    let dir = tempfile::tempdir().unwrap();
    let at = |url: &str| Folder::new(dir.path().join("site"), &format!("store.url = \"{url}\"\n{NOOP}"));
    at(&databases.store_url).serve().await.terminate().await;
    let elsewhere = format!("store.url = \"{}\"\n{NOOP}", other.store_url);
    Folder::new(dir.path().join("elsewhere"), &elsewhere).serve().await.terminate().await;
    at(&other.store_url).refused(&["the database is the store ", "check store.url"]).await;

    let mut db = PgConnection::connect(&databases.store_url).await.unwrap();
    sqlx::raw_sql("DROP SCHEMA tidemill CASCADE").execute(&mut db).await.unwrap();
    at(&databases.store_url).refused(&["has no tables of this host", "restore a backup", "store-id"]).await;
    let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'tidemill'")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(tables, 0, "nothing was written");
    db.close().await.unwrap();
}

/// A backup replaces the database, and the log of the previous database is still there.
#[tokio::test]
async fn a_log_of_another_database_is_refused() {
    needs!(Product);
    type Case = (&'static str, bool, bool);
    // How the backup was made; whether it was made in the run that left the log, or in an earlier one;
    // whether it was copied over the file, or renamed.
    let cases: [Case; 6] = [
        ("vacuum", true, true),
        ("vacuum", true, false),
        ("vacuum", false, true),
        ("backup", true, true),
        ("backup", false, false),
        ("plain", false, true),
    ];
    for (made, same_run, copied) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (folder, copy) = (Folder::new(dir.path().join("site"), NOOP), dir.path().join("copy.db"));
        let mut host = folder.serve().await;
        assert_eq!(folder.add("old").await, 201);
        match made {
            "vacuum" => vacuum_into(&store(&folder), &copy).await,
            "backup" => backup(&store(&folder), &copy).await,
            _ => {}
        }
        if !same_run {
            host.terminate().await;
            if made == "plain" {
                fs::copy(store(&folder), &copy).unwrap();
            }
            host = folder.serve().await;
        }
        for n in 0..20 {
            assert_eq!(folder.add(&format!("new-{n}")).await, 201);
        }
        host.kill9().await;
        assert!(fs::metadata(beside(&folder, "-wal")).unwrap().len() > 0);
        if copied { fs::copy(&copy, store(&folder)).map(|_| ()) } else { fs::rename(&copy, store(&folder)) }
            .unwrap();
        let before = fs::read(store(&folder)).unwrap();

        let case = format!("{made}, same run {same_run}, copied {copied}");
        let wal = beside(&folder, "-wal").display().to_string();
        folder.refused(&[wal.as_str(), "does not belong to the database", "move ", "-shm away"]).await;
        assert_eq!(fs::read(store(&folder)).unwrap(), before, "{case}: nothing was written");
        let (code, said) = super::run(&["token", "list"], &folder.path).await;
        assert!(code == Some(1) && said.contains("does not belong"), "{case}: {said}");

        // The remedy.
        for end in ["-wal", "-shm"] {
            fs::rename(beside(&folder, end), dir.path().join(end)).unwrap();
        }
        let host = folder.serve().await;
        assert!(has(&folder, "old").await, "{case}");
        assert!(!has(&folder, "new-0").await, "{case}");
        host.terminate().await;
    }
}

#[tokio::test]
async fn a_log_without_a_database_is_refused() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("site"), NOOP);
    let host = folder.serve().await;
    assert_eq!(folder.add("one").await, 201);
    host.kill9().await;
    let wal = fs::read(beside(&folder, "-wal")).unwrap();
    fs::rename(store(&folder), dir.path().join("away.db")).unwrap();
    // This also works if nothing else shows that there was a store.
    fs::remove_file(folder.path("data/store-id")).unwrap();
    folder.refused(&["-wal does not belong to the database", "there is no database"]).await;
    assert_eq!(fs::read(beside(&folder, "-wal")).unwrap(), wal, "it is still there");
    fs::rename(dir.path().join("away.db"), store(&folder)).unwrap();
    let host = folder.serve().await;
    assert!(has(&folder, "one").await);
    host.terminate().await;
}

#[tokio::test]
async fn the_databases_own_log_is_taken() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("site"), NOOP);
    for n in 0..3 {
        let host = folder.serve().await;
        assert_eq!(folder.add(&format!("one-{n}")).await, 201);
        if n == 1 {
            // A manual VACUUM while the host runs counts as a change of tables.
            sqlite(&store(&folder), "VACUUM").await;
            assert_eq!(folder.add("vacuumed").await, 201);
        }
        host.kill9().await;
        assert!(fs::metadata(beside(&folder, "-wal")).unwrap().len() > 0);
        if n == 2 {
            // As after a copy of the whole data folder by a version that writes no notes.
            fs::write(beside(&folder, ".host-lock"), "").unwrap();
        }
    }
    let host = folder.serve().await;
    for key in ["one-0", "one-1", "vacuumed", "one-2"] {
        assert!(has(&folder, key).await, "{key}");
    }
    host.terminate().await;
}

/// Runs the commands of docs/install.md in a host's folder.
#[tokio::test]
async fn the_documented_restore_works() {
    needs!(Product);
    let (_, steps) = MANUAL.split_once("<!-- restore -->\n```sh\n").unwrap();
    let (steps, _) = steps.split_once("```").unwrap();
    type Loss = (&'static str, fn(&Path));
    let losses: [Loss; 3] = [
        ("killed", |_| {}),
        ("removed", |store| fs::remove_file(store).unwrap()),
        ("overwritten", |store| fs::write(store, "not a database, ".repeat(1_000)).unwrap()),
    ];
    for (loss, lose) in losses {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("site"), NOOP);
        let host = folder.serve().await;
        assert_eq!(folder.add("old").await, 201);
        vacuum_into(&store(&folder), &folder.path("backup.db")).await;
        assert_eq!(folder.add("new").await, 201);
        lose(&store(&folder));
        host.kill9().await;

        let ran = Command::new("sh").args(["-ec", steps]).current_dir(&folder.path).output().unwrap();
        assert!(ran.status.success(), "{loss}: {ran:?}");
        let host = folder.serve().await;
        assert!(has(&folder, "old").await && !has(&folder, "new").await, "{loss}");
        assert_eq!(folder.add("new").await, 201, "{loss}");
        assert_eq!(fs::metadata(store(&folder)).unwrap().permissions().mode() & 0o777, 0o600, "{loss}");
        assert!(folder.path("lost/tidemill.db-wal").is_file(), "{loss}: what is left is kept");
        host.terminate().await;
    }
}
