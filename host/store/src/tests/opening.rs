//! Opening a store: accepted and refused configurations, and the error texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use test_support::{Kind, execute, needs, on_both, postgres_url};

use super::support::{T, at, config, failed, job};
use crate::store::hide_password;
use crate::{Store, StoreConfig, StoreError};

on_both! {
    reopened_store_has_everything,
    many_hosts_may_open_a_new_database_at_once,
    newer_store_is_refused,
    changed_migration_is_refused,
    unfinished_migration_is_refused,
    wrong_datasource_is_refused,
    ping_answers_until_closed,
}

async fn refusal(url: &str) -> StoreError {
    let config =
        StoreConfig { url: url.to_owned(), password: None, notify: true, datasources: BTreeMap::new() };
    match Store::open(&config).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

async fn unusable(url: &str, folder: &TempDir, expected: Expect) {
    let error = refusal(url).await;
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    expected.assert_eq(&error.to_string().replace(&folder.path().display().to_string(), "FOLDER"));
}

async fn reopened_store_has_everything(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.attempt("a", failed(), 0).await;
    t.discover(&job(), &["b"], 1).await;
    t.claim_one(1).await;
    let before = t.everything().await;
    t.store.close().await;
    let store = Arc::new(Store::open(&config(&t.url, &t.shop_url)).await.unwrap());
    let again = T { store: store.clone(), ..t };
    assert_eq!(again.everything().await, before);
    store.close().await;
}

async fn many_hosts_may_open_a_new_database_at_once(t: T) {
    if t.kind == Kind::Sqlite {
        return; // An SQLite store has one host.
    }
    execute(&t.url, "DROP SCHEMA tidemill CASCADE").await;
    let opening: Vec<_> = (0..6)
        .map(|_| {
            let config = config(&t.url, &t.shop_url);
            tokio::spawn(async move { Store::open(&config).await })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap().close().await;
    }
}

async fn newer_store_is_refused(t: T) {
    let newer = match t.kind {
        Kind::Sqlite => "x'00'",
        Kind::Postgres => "'x'",
    };
    let row = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'from the future', TRUE, {newer}, 1)"
    );
    t.tamper(&row).await.unwrap();
    let before = t.everything().await;
    let error = refusal(&t.url).await;
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    expect!["the database was set up by a newer tidemill (it has migration 99, this one ends at 23): run that version, or restore a copy from before the upgrade"]
        .assert_eq(&error.to_string());
    assert_eq!(t.everything().await, before);
}

async fn changed_migration_is_refused(t: T) {
    t.tamper("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1").await.unwrap();
    let error = refusal(&t.url).await;
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    expect!["migration 1 of the database is not the one of this tidemill: it was set up by a different build; use that one, or a new database"]
        .assert_eq(&error.to_string());
}

async fn unfinished_migration_is_refused(t: T) {
    t.tamper("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 2").await.unwrap();
    let error = refusal(&t.url).await;
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    expect!["migration 2 was begun and not finished: restore a copy of the database from before it"]
        .assert_eq(&error.to_string());
}

async fn wrong_datasource_is_refused(t: T) {
    let mut reported = String::new();
    for url in ["mysql://shop:hunter2@db/shop", "shop.db", "postgres://shop:hunter2@db:port/shop"] {
        let error = Store::open(&config(&t.url, url)).await.err().unwrap();
        assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
        reported.push_str(&format!("{error}\n"));
    }
    expect![[r#"
        datasource "shop" (mysql://...@db/...): not supported, use sqlite://path/to/file.db or postgres://user@host/database
        datasource "shop" (shop.db): not supported, use sqlite://path/to/file.db or postgres://user@host/database
        datasource "shop" (postgres://shop@db:port/shop): error with configuration: invalid port number
    "#]].assert_eq(&reported);
}

async fn ping_answers_until_closed(t: T) {
    t.store.ping().await.unwrap();
    t.store.close().await;
    let error = t.store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    let text = "dear diary, ".repeat(500);
    std::fs::write(&file, &text).unwrap();
    unusable(&format!("sqlite://{}", file.display()), &folder, expect![[r#"SQLite at "sqlite://FOLDER/notes.txt": the file is no SQLite database (error returned from database: (code: 26) file is not a database): move it away, or name another file"#]]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it is left as it was");
}

#[tokio::test]
async fn folder_in_place_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    unusable(
        &format!("sqlite://{}", folder.path().display()),
        &folder,
        expect![[r#"SQLite at "sqlite://FOLDER": it is a folder: name a file in it"#]],
    )
    .await;
}

#[tokio::test]
async fn file_in_place_of_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let url = format!("sqlite://{}", folder.path().join("data/tidemill.db").display());
    unusable(&url, &folder, expect![[r#"SQLite at "sqlite://FOLDER/data/tidemill.db": cannot make the folder FOLDER/data: File exists (os error 17); name one that this user may make and write to"#]]).await;
}

#[tokio::test]
async fn read_only_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("tidemill.db").display());
    let config = StoreConfig { url: url.clone(), password: None, notify: true, datasources: BTreeMap::new() };
    Store::open(&config).await.unwrap().close().await;
    unusable(&format!("{url}?mode=ro"), &folder, expect![[r#"SQLite at "sqlite://FOLDER/tidemill.db?mode=ro": the file or its folder is read-only (error returned from database: (code: 8) attempt to write a readonly database): make both writable for this user"#]]).await;
}

#[tokio::test]
async fn database_in_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    unusable(
        "sqlite::memory:",
        &folder,
        expect![[
            r#"SQLite at "sqlite::memory:": a database in memory is gone with its process: name a file"#
        ]],
    )
    .await;
    unusable("sqlite://x.db?mode=memory", &folder, expect![[r#"SQLite at "sqlite://x.db?mode=memory": a database in memory is gone with its process: name a file"#]]).await;
}

#[tokio::test]
async fn wrong_scheme_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    unusable("mysql://root:hunter2@db/tidemill", &folder, expect![[r#"store url "mysql://...@db/..." is not supported: use sqlite://path/to/file.db or postgres://user@host/database"#]]).await;
    unusable("tidemill.db", &folder, expect![[r#"store url "tidemill.db" is not supported: use sqlite://path/to/file.db or postgres://user@host/database"#]]).await;
    unusable(
        "",
        &folder,
        expect![[
            r#"store url "" is not supported: use sqlite://path/to/file.db or postgres://user@host/database"#
        ]],
    )
    .await;
}

#[tokio::test]
async fn unavailable_postgres_is_reported() {
    let error = refusal("postgres://tidemill:hunter2@127.0.0.1:1/tidemill").await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    expect![[r#"the database is not available: Postgres at "postgres://tidemill@127.0.0.1:1/tidemill": error communicating with database: Connection refused (os error 111); check that it runs, the address, the user and the password"#]].assert_eq(&error.to_string());
}

#[tokio::test]
async fn missing_postgres_database_is_reported() {
    needs!(Postgres);
    let url = postgres_url().replace("/postgres?", "/nowhere?");
    let (base, _) = url.rsplit_once('/').unwrap();
    let (_, address) = base.rsplit_once('@').unwrap();
    let error = refusal(&format!("{base}/nowhere")).await;
    expect![[r#"the database is not available: Postgres at "postgres://postgres@ADDRESS/nowhere": database "nowhere" does not exist; check that it runs, the address, the user and the password"#]].assert_eq(&error.to_string().replace(address, "ADDRESS"));
}

#[tokio::test]
async fn mistake_in_a_postgres_url_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    unusable("postgres://tidemill:hunter2@db:port/tidemill", &folder, expect![[r#"Postgres at "postgres://tidemill@db:port/tidemill": error with configuration: invalid port number"#]]).await;
    unusable("postgres://tidemill@db/tidemill?sslmode=perhaps&password=hunter2", &folder, expect![[r#"Postgres at "postgres://tidemill@db/tidemill?sslmode=perhaps&password=...": error with configuration: error with configuration: unknown value "perhaps" for `ssl_mode`"#]]).await;
}

#[test]
fn passwords_are_never_shown() {
    let urls = [
        "postgres://ada:hunter2@db/x",
        "postgres://ada:hunter2@db:5432/x?sslmode=require",
        "postgres://ada:hun@ter2@db/x",
        "postgres://ada:hun/ter2@db/x",
        "postgres://ada:hunter2:hunter2@db/x",
        "postgres://:hunter2@db/x",
        "postgres://db/x?user=ada&password=hunter2",
        "postgres://db/x?password=hunter2&sslmode=require",
        "postgres:ada:hunter2@db/x",
    ];
    let shown: String = urls.iter().map(|url| format!("{}\n", hide_password(url))).collect();
    expect![[r#"
        postgres://ada@db/x
        postgres://ada@db:5432/x?sslmode=require
        postgres://ada@db/x
        postgres://ada@db/x
        postgres://ada@db/x
        postgres://@db/x
        postgres://db/x?user=ada&password=...
        postgres://db/x?password=...&sslmode=require
        postgres:ada@db/x
    "#]]
    .assert_eq(&shown);
    assert!(!shown.contains("hun") && !shown.contains("ter2"));
    for plain in
        ["sqlite://data/tidemill.db", "postgres://ada@db:5432/x?sslmode=require", "postgres://db/x", "x"]
    {
        assert_eq!(hide_password(plain), plain);
    }
}

#[test]
fn values_of_unknown_parameters_are_hidden() {
    let urls = [
        "postgres://db/x?pasword=hunter2&sslmode=require",
        "postgres://db/x?p%61ssword=hunter2",
        "postgres://db/x?hunter2",
        "https://hooks.example/x?mode=hunter2&token=hunter2",
    ];
    let shown: String = urls.iter().map(|url| format!("{}\n", hide_password(url))).collect();
    expect![[r#"
        postgres://db/x?pasword=...&sslmode=require
        postgres://db/x?p%61ssword=...
        postgres://db/x?...
        https://hooks.example/...
    "#]]
    .assert_eq(&shown);
}
