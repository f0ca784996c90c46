//! When the tables of a store may be changed, and by which commands.

use std::time::Duration;

use expect_test::expect;
use jiff::Timestamp;
use test_support::{Kind, execute, on_both, run};

use super::support::{T, at, config};
use crate::opening::connect::sqlite;
use crate::opening::migrate;
use crate::opening::schema::{Opening, Schema};
use crate::store::hide_password;
use crate::{Store, StoreConfig, StoreError};

/// Number of migrations of the older version here.
const OLDER: usize = 9;
/// How long the heartbeats of hosts are watched here.
const LEASE: Duration = Duration::from_secs(1);

on_both! {
    older_store_is_left_as_it_is,
    missing_store_is_not_made,
    store_that_is_not_of_this_version_is_refused_as_it_is,
    store_of_this_version_is_opened_as_it_is,
    older_store_is_upgraded_if_asked,
    store_of_hosts_that_stopped_or_died_is_upgraded,
}

/// Replaces the case's store with one of an older version.
async fn older(t: &T) -> StoreConfig {
    of_version(t, OLDER).await
}

/// Replaces the case's store with one that has the first `count` migrations.
pub async fn of_version(t: &T, count: usize) -> StoreConfig {
    let config = empty(t).await;
    let db = match t.kind {
        Kind::Sqlite => sqlite(&config.url).await.unwrap(),
        Kind::Postgres => {
            execute(&t.url, "CREATE SCHEMA tidemill").await;
            t.store.db.clone()
        }
    };
    migrate::run_first(&db, count).await;
    if t.kind == Kind::Sqlite {
        db.close().await;
    }
    config
}

/// A database without tables of the host.
async fn empty(t: &T) -> StoreConfig {
    let url = match t.kind {
        Kind::Sqlite => t.url.replace("test.db", "other.db"),
        Kind::Postgres => {
            execute(&t.url, "DROP SCHEMA tidemill CASCADE").await;
            t.url.clone()
        }
    };
    config(&url, &t.shop_url)
}

/// Describes all tables of the database.
async fn tables(t: &T, config: &StoreConfig) -> Vec<String> {
    let sql = match t.kind {
        Kind::Sqlite => "SELECT type || name || coalesce(sql, '') AS line FROM sqlite_master ORDER BY 1",
        Kind::Postgres => {
            "SELECT table_schema || table_name || column_name || data_type AS line
                FROM information_schema.columns WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1"
        }
    };
    lines(t, config, sql).await
}

async fn lines(t: &T, config: &StoreConfig, sql: &str) -> Vec<String> {
    let db = match t.kind {
        Kind::Sqlite => sqlite(&config.url).await.unwrap(),
        Kind::Postgres => t.store.db.clone(),
    };
    let mut tx = db.begin_read().await.unwrap();
    let rows = tx.fetch_declared(sql, &[], crate::db::Most::ALL).await.unwrap();
    let lines = rows.iter().map(|row| row.text("line").unwrap()).collect();
    tx.rollback().await.unwrap();
    if t.kind == Kind::Sqlite {
        db.close().await;
    }
    lines
}

async fn refused(config: &StoreConfig, opening: Opening) -> String {
    match Store::open_as(config, opening).await {
        Ok(_) => panic!("the store was opened"),
        Err(error) => {
            assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
            let needed = format!("needs schema {}", migrate::LATEST);
            error
                .to_string()
                .replace(&hide_password(&config.url), "URL")
                .replace(&needed, "needs schema LATEST")
        }
    }
}

async fn older_store_is_left_as_it_is(t: T) {
    let config = older(&t).await;
    let before = tables(&t, &config).await;
    expect![[r#"the store at "URL" has schema 9, and this tidemill 0.1.0 needs schema LATEST; this command does not upgrade it, because hosts of the older version may be running. Stop them, make a copy of the database, and run `tidemill migrate` or start the new host; until then use the older tidemill"#]]
        .assert_eq(&refused(&config, Opening::AsIs).await);
    let schema = Schema::of(&config).await.unwrap();
    assert_eq!((schema.present, schema.is_current()), (Some(9), false));
    assert_eq!(schema.pending.first(), Some(&(10, "schedules")));
    assert_eq!(tables(&t, &config).await, before);
}

async fn missing_store_is_not_made(t: T) {
    let config = empty(&t).await;
    expect![[r#"there is no store at "URL" yet, and this command does not make one: start the host with `tidemill serve`, or make it with `tidemill migrate`"#]]
        .assert_eq(&refused(&config, Opening::AsIs).await);
    let schema = Schema::of(&config).await.unwrap();
    assert_eq!(schema.present, None);
    match t.kind {
        Kind::Sqlite => {
            let file = config.url.strip_prefix("sqlite://").unwrap();
            assert!(!std::fs::exists(file).unwrap());
            // A file without tables of the host is not changed either.
            std::fs::write(file, "").unwrap();
            assert!(refused(&config, Opening::AsIs).await.contains("there is no store"));
            assert_eq!(std::fs::metadata(file).unwrap().len(), 0);
        }
        Kind::Postgres => {
            let schemas = "SELECT nspname::text AS line FROM pg_namespace WHERE nspname = 'tidemill'";
            assert!(lines(&t, &config, schemas).await.is_empty());
        }
    }
}

async fn store_that_is_not_of_this_version_is_refused_as_it_is(t: T) {
    let config = config(&t.url, &t.shop_url);
    let last = format!("UPDATE _sqlx_migrations SET version = 99 WHERE version = {}", migrate::LATEST);
    let before_it = format!("has schema {}", migrate::LATEST - 2);
    let cases = [
        (last.as_str(), "newer tidemill (it has migration 99"),
        ("UPDATE _sqlx_migrations SET version = 0 WHERE version = 99", "set up by a different build"),
        // Without its last migration, the store looks as it does during the upgrade.
        ("DELETE FROM _sqlx_migrations WHERE version = 0", "has begun and is not complete"),
        ("DELETE FROM _sqlx_migrations WHERE version = 22", before_it.as_str()),
        ("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 5", "migration 5 was begun"),
        (
            "UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 4",
            "migration 4 of the database is not",
        ),
    ];
    for (sql, said) in cases {
        t.tamper(sql).await.unwrap();
        let error = refused(&config, Opening::AsIs).await;
        assert!(error.contains(said), "{sql}: {error}");
    }
}

async fn store_of_this_version_is_opened_as_it_is(t: T) {
    let config = config(&t.url, &t.shop_url);
    let before = tables(&t, &config).await;
    let store = Store::open_as(&config, Opening::AsIs).await.unwrap();
    store.tokens().add("ada", "hash", at(0)).await.unwrap();
    store.close().await;
    assert_eq!(tables(&t, &config).await, before);
}

async fn older_store_is_upgraded_if_asked(t: T) {
    let config = older(&t).await;
    let store = Store::open_as(&config, Opening::Upgrade { lease: LEASE }).await.unwrap();
    store.close().await;
    assert!(Schema::of(&config).await.unwrap().is_current());
}

/// Rows of hosts as an older version wrote them.
fn host_row(id: &str, heartbeat: Timestamp, stopped: Option<Timestamp>) -> String {
    let stopped = stopped.map_or("NULL".to_owned(), |at| at.as_millisecond().to_string());
    let heartbeat = heartbeat.as_millisecond();
    format!(
        "INSERT INTO host (id, name, started_at_ms, heartbeat_at_ms, stopped_at_ms)
            VALUES ('{id}', 'alpha', 0, {heartbeat}, {stopped});"
    )
}

async fn store_of_hosts_that_stopped_or_died_is_upgraded(t: T) {
    let config = older(&t).await;
    let (now, t) = (Timestamp::now(), T { url: config.url.clone(), ..t });
    let rows = [
        host_row("stopped", now, Some(now)),
        host_row("died-long-ago", at(0), None),
        host_row("just-died", now, None),
        host_row("clock-was-ahead", now + jiff::SignedDuration::from_hours(1), None),
    ];
    t.tamper(&rows.concat()).await.unwrap();
    let store = Store::open_as(&config, Opening::Upgrade { lease: LEASE }).await.unwrap();
    store.close().await;
    assert!(Schema::of(&config).await.unwrap().is_current());
}

/// An SQLite store has one host, and the host's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_of_running_hosts_is_not_upgraded() {
    run(Kind::Postgres, host_is_running).await;
}

async fn host_is_running(t: T) {
    let config = older(&t).await;
    let now = Timestamp::now();
    let rows = [host_row("one", now, None), host_row("gone", now, Some(now))];
    t.tamper(&rows.concat()).await.unwrap();
    let before = tables(&t, &config).await;
    let beats = async {
        loop {
            t.tamper("UPDATE host SET heartbeat_at_ms = heartbeat_at_ms + 5000 WHERE id = 'one'")
                .await
                .unwrap();
        }
    };
    let hour = Opening::Upgrade { lease: Duration::from_hours(1) };
    let error = tokio::select! {
        error = refused(&config, hour) => error,
        () = beats => unreachable!(),
    };
    expect![[r#"the store has schema 9 and this tidemill 0.1.0 needs schema LATEST, but hosts are running on the store: "alpha" (one). An upgrade would change the tables under them: stop every host, then start this one; nothing was changed"#]]
        .assert_eq(&error);
    assert_eq!(tables(&t, &config).await, before);
}
