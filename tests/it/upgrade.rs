//! The tables of a store change only when a host starts or a user runs `tidemill migrate`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Output;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr, SqlitePool};
use test_support::{execute, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, text};

on_both! {
    only_serve_and_migrate_change_an_older_store,
    a_host_upgrades_an_older_store_when_it_starts,
    a_new_store_is_made_by_migrate,
    a_store_is_not_migrated_under_a_running_host,
}

/// Number of migrations in the older version of these tests.
const OLDER: usize = 12;

/// Every migration of one kind of database, in order: number, file.
fn migrations(kind: Kind) -> Vec<(i64, PathBuf)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let own = if kind == Kind::Sqlite { "sqlite" } else { "postgres" };
    let files = ["common", own].into_iter().flat_map(|folder| std::fs::read_dir(all.join(folder)).unwrap());
    let number = |file: &Path| file.file_name().unwrap().to_str().unwrap()[..4].parse().unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut numbered: Vec<(i64, PathBuf)> = files.map(|file| (number(&file), file)).collect();
    numbered.sort();
    numbered
}

/// Creates the store as a version with fewer migrations would.
async fn make_older(databases: &Databases) {
    let first = migrations(databases.kind).into_iter().take(OLDER).map(|(number, file)| {
        let sql = AssertSqlSafe(std::fs::read_to_string(file).unwrap()).into_sql_str();
        Migration::new(number, Cow::Borrowed("older"), MigrationType::Simple, sql, false)
    });
    let migrator = Migrator::with_migrations(first.collect());
    match databases.kind {
        Kind::Sqlite => {
            let pool = SqlitePool::connect(&format!("{}?mode=rwc", databases.store_url)).await.unwrap();
            migrator.run(&pool).await.unwrap();
            pool.close().await;
        }
        Kind::Postgres => {
            execute(&databases.store_url, "CREATE SCHEMA tidemill").await;
            let options: sqlx::postgres::PgConnectOptions = databases.store_url.parse().unwrap();
            let pool = PgPool::connect_with(options.options([("search_path", "tidemill")])).await.unwrap();
            migrator.run(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

/// The existing tables and columns.
async fn tables(databases: &Databases) -> Vec<String> {
    let sql = match databases.kind {
        Kind::Sqlite => "SELECT name || coalesce(sql, '') FROM sqlite_master ORDER BY 1",
        Kind::Postgres => {
            "SELECT table_name || '.' || column_name FROM information_schema.columns
                WHERE table_schema IN ('tidemill', 'public') ORDER BY 1"
        }
    };
    databases.store_texts(sql).await
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn only_serve_and_migrate_change_an_older_store(kind: Kind) {
    let databases = Databases::new(kind).await;
    make_older(&databases).await;
    let site = Site::with_store(&databases.store_url, "");
    let latest = migrations(kind).len();
    let before = tables(&databases).await;
    for args in [&["token", "list"][..], &["token", "add", "ada"], &["token", "remove", "ada"]] {
        let (code, out, error) = said(&site.ask_here(args).await);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {error}");
        for part in ["schema 12", &format!("needs schema {latest}"), "`tidemill migrate`"] {
            assert!(error.contains(part), "{args:?}: {error}");
        }
        assert_eq!(tables(&databases).await, before, "{args:?}");
    }
    let (code, out, error) = said(&site.ask_here(&["migrate", "--dry-run"]).await);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("has schema 12") && out.contains("    13  locks\n"), "{out}");
    assert_eq!(tables(&databases).await, before);

    let (code, out, error) = said(&site.ask_here(&["migrate"]).await);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.ends_with(&format!("the store has schema {latest}\n")), "{out}");
    assert!(tables(&databases).await != before);
    let (code, out, _) = said(&site.ask_here(&["migrate"]).await);
    assert!(code == Some(0) && out.contains("nothing to do"), "{out}");
    assert!(site.ask_here(&["token", "add", "ada"]).await.status.success());
}

async fn a_host_upgrades_an_older_store_when_it_starts(kind: Kind) {
    let databases = Databases::new(kind).await;
    make_older(&databases).await;
    let site = Site::with_store(&databases.store_url, "");
    let host = site.serve().await;
    assert!(site.ask_here(&["token", "list"]).await.status.success());
    host.terminate().await;
}

async fn a_new_store_is_made_by_migrate(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, "");
    let (code, out, error) = said(&site.ask_here(&["token", "list"]).await);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("there is no store") && error.contains("`tidemill migrate`"), "{error}");
    let (code, out, _) = said(&site.ask_here(&["migrate", "--dry-run"]).await);
    assert!(code == Some(0) && out.contains("has no store yet"), "{out}");
    let is_there = site.ask_here(&["token", "list"]).await.status.success();
    assert!(!is_there, "neither of them makes one");

    assert!(site.ask_here(&["migrate"]).await.status.success());
    assert!(site.ask_here(&["token", "list"]).await.status.success());
    site.serve().await.terminate().await;
}

/// Deleting the record of the last migration simulates a running host of an older version.
async fn a_store_is_not_migrated_under_a_running_host(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, "");
    let host = site.serve().await;
    let last = migrations(kind).len();
    databases.store(&format!("DELETE FROM _sqlx_migrations WHERE version = {last}")).await;
    let before = tables(&databases).await;
    let other = site.write("other.toml", "data-other");
    let text_of_other = std::fs::read_to_string(&other).unwrap();
    std::fs::write(&other, text_of_other.replace(&site.address.to_string(), "127.0.0.1:0")).unwrap();
    let refusals = [
        said(&site.ask_here(&["migrate"]).await),
        said(&site.ask_here(&["serve", "--config", other.to_str().unwrap()]).await),
    ];
    for (code, out, error) in refusals {
        let expected = match kind {
            Kind::Sqlite => "another tidemill uses",
            Kind::Postgres => "hosts are running on the store",
        };
        assert!(code == Some(1) && error.contains(expected), "{out}{error}");
    }
    assert_eq!(tables(&databases).await, before);
    host.terminate().await;
}
