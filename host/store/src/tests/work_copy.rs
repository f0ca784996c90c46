//! The upgrade from schema 21, which copies all items and attempts: what becomes of each kind of row, and an
//! upgrade that is killed, concurrent, or meets a row that it cannot copy.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use expect_test::expect;
use test_support::{Kind, on_both, run};

use super::schema::of_version;
use super::support::T;
use crate::db::Db;
use crate::opening::connect::sqlite;
use crate::opening::migrate;
use crate::opening::schema::{Opening, Schema};
use crate::opening::work_copy::{Progress, Session};
use crate::{Store, StoreConfig, StoreError};

on_both! {
    every_kind_of_row_is_converted,
    killed_upgrade_continues_where_it_stopped,
    row_that_cannot_be_copied_is_named_and_nothing_is_lost,
    difference_between_old_and_new_rows_stops_the_upgrade,
    upgrade_is_measured,
}

/// The last schema that keeps items and attempts in the old tables.
const OLD: usize = 21;
/// More than two portions.
const ITEMS: u32 = 12_000;

/// A store of schema 21 with `items` items in every state, and a tenth more attempts.
async fn old_store(t: &T, items: u32) -> (T, StoreConfig) {
    let config = of_version(t, OLD).await;
    let t = T { url: config.url.clone(), ..t.clone() };
    t.tamper(&old_rows(items)).await.unwrap();
    (t, config)
}

/// Item `i` has state `i % 6`, and is in a batch if `i` ends in 0. Running items share a claim in groups.
fn old_rows(items: u32) -> String {
    let uuid = |kind: &str, number: &str| {
        format!("'0190aaaa-0000-{kind}-8000-' || substr(CAST(1000000000000 + {number} AS TEXT), 2)")
    };
    let (id, claim, run, host) =
        (uuid("7000", "i"), uuid("7001", "i / 30"), uuid("7002", "i % 5"), uuid("4000", "1"));
    let state =
        "CASE i % 6 WHEN 0 THEN 'waiting' WHEN 1 THEN 'running' WHEN 2 THEN 'awaiting' WHEN 3 THEN 'resolved'
        WHEN 4 THEN 'manual_required' ELSE 'abandoned' END";
    let running = |value: &str| format!("CASE WHEN i % 6 = 1 THEN {value} END");
    let batch = |value: &str| format!("CASE WHEN i % 10 = 0 THEN {value} END");
    let series = |count: u32| {
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
    };
    let item = format!(
        "INSERT INTO item (id, job, item_key, payload, state, priority, due_at_ms, attempts, crashes, series, epoch, attempt_id, host_id,
            lease_until_ms, claimed_at_ms, run_id, seen_run_id, note, error_code, error_message, first_attempt_at_ms, last_attempt_at_ms,
            created_at_ms, updated_at_ms, version, batch_id, batch_index, operation, created_by, max_attempts, resolved_at_ms, resolved_by,
            exhausted, deferrals)
        {} SELECT {id}, 'job-' || (i % 3), 'key-' || i, '{{\"n\":' || i || '}}', {state}, i % 2, 1000000 + i * 7 % 5000, i % 4,
            CASE WHEN i % 6 = 1 THEN 1 + i % 3 ELSE 0 END, 1 + i % 2, i % 4 + CASE WHEN i % 6 = 1 THEN 1 ELSE 0 END, {}, {}, {}, {},
            CASE WHEN i % 2 = 0 THEN {run} END, {run}, CASE WHEN i % 3 = 0 THEN 'note ' || i END,
            CASE WHEN i % 6 = 4 THEN 'flaky' END, CASE WHEN i % 6 = 4 THEN 'it fails' END, 1000 + i, 2000 + i, 500 + i, 3000 + i, 1 + i % 9,
            {}, {}, {}, {}, {}, CASE WHEN i % 6 = 3 THEN 4000 + i END, CASE WHEN i % 12 = 3 THEN 'ada' END,
            CASE WHEN i % 6 = 4 THEN 1 ELSE 0 END, i % 5 FROM n;",
        series(items),
        running(&claim), running(&host), running("9000"), running("8000"),
        batch("'batch-' || (i / 1000)"), batch("i"), batch("'create'"), batch("'ada'"), batch("3"),
    );
    let attempt = |items: u32, each: &str, epoch: &str| {
        format!(
            "INSERT INTO attempt (item_id, epoch, attempt_id, job, item_key, number, verdict, error_code, error_message, note, log, host_id,
                digest, started_at_ms, ended_at_ms, wall_us, memory_bytes_max, run_id, cpu_us, host_calls, host_bytes)
            {} SELECT {id}, {epoch}, {claim}, 'job-' || (i % 3), 'key-' || i, {epoch}, 'resolved', CASE WHEN i % 4 = 0 THEN 'flaky' END,
                CASE WHEN i % 4 = 0 THEN 'it fails' END, NULL, 'line ' || i, {host},
                CASE WHEN i % 5 > 0 THEN substr(CAST(1000000000000 + i AS TEXT), 2) || 'c0ffee' END, 1000 + i, 2000 + i, 10, 65536,
                CASE WHEN i % 2 = 0 THEN {run} END, 5, 3, 99 FROM n WHERE {each};",
            series(items)
        )
    };
    [item, attempt(items, "i > 0", "1"), attempt(items, "i % 10 = 0", "2")].concat()
}

async fn db_of(t: &T, config: &StoreConfig) -> Db {
    match t.kind {
        Kind::Sqlite => sqlite(&config.url).await.unwrap(),
        Kind::Postgres => t.store.db.clone(),
    }
}

/// Upgrades at most `most` transactions of the copy, as a process that is then killed.
async fn upgrade_some(t: &T, config: &StoreConfig, most: usize) -> Result<bool, StoreError> {
    let db = db_of(t, config).await;
    let done = migrate::run_some(&db, most).await;
    if t.kind == Kind::Sqlite {
        db.close().await;
    }
    done
}

/// Opens the store as a host does. The case's own helpers then work on it.
async fn opened(t: &T, config: &StoreConfig) -> T {
    let store = Store::open_as(config, Opening::UPGRADE).await.unwrap();
    T { store: Arc::new(store), url: config.url.clone(), ..t.clone() }
}

async fn refused(config: &StoreConfig, opening: Opening) -> String {
    match Store::open_as(config, opening).await {
        Ok(_) => panic!("the store was opened"),
        Err(error @ StoreError::Unusable(_)) => error.to_string(),
        Err(error) => panic!("{error:?}"),
    }
}

const TABLES: [&str; 7] = ["item", "due", "claim", "attempt", "parked", "counter", "batch"];

/// All rows of the new tables, as text.
async fn rows(t: &T) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        let columns = match (table, t.kind) {
            ("claim", Kind::Postgres) => {
                "id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items::text, epochs::text"
            }
            _ => "*",
        };
        let mut rows: Vec<String> = t
            .rows(&format!("SELECT {columns} FROM {table}"))
            .await
            .iter()
            .map(|row| format!("{table} {:?}", row.values()))
            .collect();
        rows.sort();
        all.append(&mut rows);
    }
    all
}

async fn every_kind_of_row_is_converted(t: T) {
    let (t, config) = old_store(&t, 120).await;
    let t = opened(&t, &config).await;
    let items = t
        .rows(
            "SELECT item_key || ' ' || state || ' epoch=' || epoch || ' crashes=' || crashes || ' attempts=' || attempts || ' exhausted='
                || exhausted || ' due=' || due_at_ms || ' batch=' || COALESCE(batch_id || '/' || batch_index, 'none') AS line
            FROM item WHERE item_key IN ('key-6', 'key-7', 'key-8', 'key-9', 'key-10', 'key-11') ORDER BY id",
        )
        .await;
    let items: Vec<String> = items.iter().map(|row| row.text("line").unwrap()).collect();
    expect![[r#"
        key-6 scheduled epoch=3 crashes=0 attempts=2 exhausted=0 due=1000042 batch=none
        key-7 scheduled epoch=4 crashes=1 attempts=3 exhausted=0 due=1000049 batch=none
        key-8 awaiting epoch=1 crashes=0 attempts=0 exhausted=0 due=1000056 batch=none
        key-9 resolved epoch=2 crashes=0 attempts=1 exhausted=0 due=1000063 batch=none
        key-10 manual_required epoch=3 crashes=0 attempts=2 exhausted=1 due=1000070 batch=batch-0/10
        key-11 abandoned epoch=4 crashes=0 attempts=3 exhausted=0 due=1000077 batch=none"#]]
    .assert_eq(&items.join("\n"));
    let counts = [
        ("SELECT COUNT(*) AS n FROM item", 120),
        ("SELECT COUNT(*) AS n FROM attempt", 132),
        // Waiting and awaiting items. Running ones are only in their claim, with their epoch.
        ("SELECT COUNT(*) AS n FROM due", 40),
        (
            "SELECT COUNT(*) AS n FROM claimed_item JOIN item ON item.id = claimed_item.item_id AND item.epoch = claimed_item.epoch
                WHERE item.state = 'scheduled' AND lease_until_ms = 9000 AND claimed_at_ms = 8000",
            20,
        ),
        ("SELECT COUNT(*) AS n FROM claimed_item JOIN due ON due.item_id = claimed_item.item_id", 0),
        ("SELECT COUNT(*) AS n FROM claim", 4),
        ("SELECT COUNT(*) AS n FROM parked", 40),
        ("SELECT COUNT(*) AS n FROM batch WHERE job LIKE 'job-%' AND created_by = 'ada'", 1),
        ("SELECT COUNT(*) AS n FROM counter", 7),
        ("SELECT CAST(SUM(items) AS BIGINT) AS n FROM item_count", 120),
        ("SELECT COUNT(*) AS n FROM attempt WHERE digest IS NULL", 36),
        ("SELECT COUNT(*) AS n FROM attempt WHERE run_id IS NULL", 60),
    ];
    for (sql, expected) in counts {
        assert_eq!(t.number(sql).await, expected, "{sql}");
    }
    let digest = t.rows("SELECT digest FROM attempt WHERE log = 'line 7'").await;
    assert_eq!(digest[0].blob("digest").unwrap(), [0, 0, 0, 0, 0, 7, 0xc0, 0xff, 0xee]);
    t.store.close().await;
}

async fn killed_upgrade_continues_where_it_stopped(t: T) {
    let (whole, config) = old_store(&t, ITEMS).await;
    let upgraded = opened(&whole, &config).await;
    let expected = rows(&upgraded).await;
    upgraded.store.close().await;
    if t.kind == Kind::Sqlite {
        std::fs::remove_file(config.url.strip_prefix("sqlite://").unwrap()).unwrap();
    }
    let (t, config) = old_store(&t, ITEMS).await;
    let mut transactions = 0;
    while !upgrade_some(&t, &config, 1).await.unwrap() {
        transactions += 1;
        let schema = Schema::of(&config).await.unwrap();
        assert_eq!((schema.present, schema.pending.len()), (Some(migrate::WORK), 1));
        let error = refused(&config, Opening::AsIs).await;
        assert!(error.contains("has begun and is not complete: run `tidemill migrate`"), "{error}");
    }
    // Three portions of items, three of attempts, the end of each, and the steps after them.
    assert_eq!(transactions, 3 + 1 + 3 + 1 + 12);
    let t = opened(&t, &config).await;
    assert_eq!(rows(&t).await.len(), expected.len());
    assert!(rows(&t).await == expected, "the rows differ from those of an upgrade that was not killed");
    t.store.close().await;
}

async fn row_that_cannot_be_copied_is_named_and_nothing_is_lost(t: T) {
    let (t, config) = old_store(&t, 300).await;
    let key = |number: u32| format!("0190aaaa-0000-7000-8000-{number:012}");
    let (item, attempt, running) = (key(200), key(100), key(7));
    let mistakes = [
        (
            format!("UPDATE old_item SET attempt_id = NULL WHERE id = '{running}'"),
            format!("UPDATE old_item SET attempt_id = '{}' WHERE id = '{running}'", key(999)),
            format!("row of old_item with id {running:?}: it runs without an attempt_id"),
        ),
        (
            format!("UPDATE old_item SET id = '0190aaaa-no-uuid' WHERE id = '{item}'"),
            format!("UPDATE old_item SET id = '{item}' WHERE item_key = 'key-200'"),
            "row of old_item with id \"0190aaaa-no-uuid\": ".to_owned(),
        ),
        (
            format!("UPDATE old_attempt SET digest = 'no hex' WHERE item_id = '{attempt}' AND epoch = 2"),
            format!("UPDATE old_attempt SET digest = NULL WHERE item_id = '{attempt}' AND epoch = 2"),
            format!("row of old_attempt with item_id {attempt:?} and epoch 2: "),
        ),
    ];
    upgrade_some(&t, &config, 0).await.unwrap();
    for (mistake, _, _) in &mistakes {
        t.tamper(mistake).await.unwrap();
    }
    for (_, correction, named) in &mistakes {
        let error = refused(&config, Opening::UPGRADE).await;
        assert!(error.contains(named), "{error}");
        assert!(error.contains("the old rows are all kept") && error.contains("Correct that row"), "{error}");
        t.tamper(correction).await.unwrap();
    }
    let t = opened(&t, &config).await;
    let count = "SELECT (SELECT COUNT(*) FROM item) * 1000 + (SELECT COUNT(*) FROM attempt) AS n";
    assert_eq!(t.number(count).await, 300_330);
    t.store.close().await;
}

async fn difference_between_old_and_new_rows_stops_the_upgrade(t: T) {
    let (t, config) = old_store(&t, 60).await;
    // One portion of items, their end, one of attempts.
    assert!(!upgrade_some(&t, &config, 3).await.unwrap());
    t.tamper("DELETE FROM attempt WHERE log = 'line 7'").await.unwrap();
    let error = refused(&config, Opening::UPGRADE).await;
    assert!(error.contains("differ: attempts: 66 expected, 65 found. The old rows are all kept"), "{error}");
    assert!(Schema::of(&config).await.unwrap().is_copying());
}

/// An SQLite store has one host, and the host's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_the_hosts_that_start_at_once_upgrades() {
    run(Kind::Postgres, hosts_start_at_once).await;
}

async fn hosts_start_at_once(t: T) {
    let (t, config) = old_store(&t, ITEMS).await;
    let upgrade = || {
        let (config, reports) = (config.clone(), Arc::new(Mutex::new(Vec::new())));
        tokio::spawn(async move {
            let report = |progress: &Progress| reports.lock().unwrap().push(progress.clone());
            let store = Store::open_reporting(&config, Opening::UPGRADE, None, &report).await.unwrap();
            store.close().await;
            reports.lock().unwrap().iter().filter(|report| matches!(report, Progress::Makes(_))).count()
        })
    };
    let mut steps = Vec::new();
    for host in [upgrade(), upgrade(), upgrade()] {
        steps.push(host.await.unwrap());
    }
    steps.sort_unstable();
    assert_eq!(steps, [0, 0, 13], "one host made all steps and the comparison");
    let t = opened(&t, &config).await;
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, i64::from(ITEMS));
    t.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_that_waits_for_another_upgrade_says_so_and_continues_it() {
    run(Kind::Postgres, host_waits_for_another).await;
}

async fn host_waits_for_another(t: T) {
    let (t, config) = old_store(&t, ITEMS).await;
    assert!(!upgrade_some(&t, &config, 1).await.unwrap());
    let mut other = Session::of(&t.store.db).await.unwrap();
    other.begin_upgrade(&|_| {}).await.unwrap();
    let (said, mut waits) = tokio::sync::mpsc::unbounded_channel();
    let opening = tokio::spawn(async move {
        let report = |progress: &Progress| drop(said.send(progress.to_string()));
        Store::open_reporting(&config, Opening::UPGRADE, None, &report).await.unwrap().close().await;
    });
    let first = waits.recv().await.unwrap();
    expect!["another host upgrades the database (19% copied); this one waits"].assert_eq(&first);
    other.end_upgrade().await.unwrap();
    opening.await.unwrap();
}

/// The bytes of the store's file, or of its tables and indexes.
async fn bytes(t: &T) -> i64 {
    if t.kind == Kind::Sqlite {
        let file = std::fs::metadata(t.url.strip_prefix("sqlite://").unwrap()).unwrap();
        return i64::try_from(file.len()).unwrap();
    }
    t.number(
        "SELECT CAST(SUM(pg_total_relation_size(pg_class.oid)) AS BIGINT) AS n FROM pg_class
            JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = 'tidemill' AND relkind = 'r'",
    )
    .await
}

/// Prints one JSON line with the time and the sizes. `cargo xtask bench migrate` runs it with a million items.
async fn upgrade_is_measured(t: T) {
    let items = std::env::var("TIDEMILL_TEST_ITEMS").map_or(10_000, |items| items.parse().unwrap());
    let attempts = i64::from(items + items / 10);
    let (t, config) = old_store(&t, items).await;
    let (before, begun) = (bytes(&t).await, Instant::now());
    let report = |progress: &Progress| eprintln!("{:6.1} s  {progress}", begun.elapsed().as_secs_f64());
    let store = Store::open_reporting(&config, Opening::UPGRADE, None, &report).await.unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let t = T { store: Arc::new(store), ..t };
    let after = bytes(&t).await;
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, i64::from(items));
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM attempt").await, attempts);
    let per_second = f64::from(items) / seconds;
    println!(
        r#"{{"database":"{:?}","items":{items},"attempts":{attempts},"seconds":{seconds:.1},"items_per_second":{per_second:.0},"bytes_before":{before},"bytes_after":{after}}}"#,
        t.kind
    );
    t.store.close().await;
}
