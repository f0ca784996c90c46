//! Plans of hot statements do not depend on the planner's statistics: a queue's table changes completely
//! within seconds, while statistics and cached plans do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::scope::Value::{self, Blob, Integer, Null, Text};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _, Sqlite, SqliteConnection};
use test_support::{Kind, run};

use super::support::T;
use crate::db::Driver;
use crate::db::sql::Sql;
use crate::events::sql as events_sql;
use crate::items::flow::sql as flow_sql;
use crate::items::sql as items_sql;
use crate::jobs::sql as jobs_sql;
use crate::runs::sql as runs_sql;

/// Maximum rows that one node of a Postgres plan may visit, out of 30,000 and more.
const VISITED_MAX: f64 = 1_000.0;
/// Maximum SQLite VM steps of one statement. A scan of one of these tables takes more than 200,000.
const STEPS_MAX: u64 = 50_000;
const STEPS_BETWEEN_LOOKS: i32 = 100;

/// A hot statement: its name, its text and the values of one execution.
type Hot = (&'static str, Sql, Vec<Value>);

fn text(text: &str) -> Value {
    Text(text.to_owned())
}

fn of_items() -> Vec<Hot> {
    let (wallet, late) = (text("wallet"), Integer(9_999_999));
    let held = [text("7"), Integer(0), text("a")];
    let with = |more: &[Value]| held.iter().chain(more).cloned().collect::<Vec<_>>();
    let end = [
        text("resolved"),
        Integer(1),
        Integer(1),
        Null,
        Null,
        Null,
        Null,
        Integer(1),
        Integer(5),
        Integer(1),
    ];
    let claim = vec![text("a"), text("h"), late.clone(), late.clone(), wallet.clone(), Integer(64)];
    let picked = vec![text("a"), text("h"), late.clone(), late.clone(), text(r#"["1", "2"]"#)];
    let due = vec![wallet.clone(), late.clone(), text(":"), text("[]"), text("[]"), Integer(64)];
    let keys = vec![wallet.clone(), text(r#"["key-7", "key-99999", "none"]"#)];
    let add = vec![text("n"), wallet.clone(), text("key-new"), text("{}"), Integer(1), text("r")];
    vec![
        ("claim", items_sql::ITEM_CLAIM, claim),
        ("due", flow_sql::ITEMS_DUE, due),
        ("picked", items_sql::ITEM_CLAIM_PICKED, picked),
        ("next_due", items_sql::ITEM_NEXT_DUE, vec![wallet.clone()]),
        ("running", flow_sql::RUNNING_COUNT, vec![wallet.clone()]),
        ("running_keys", flow_sql::RUNNING_KEYS, vec![wallet.clone()]),
        ("held", items_sql::ITEM_HELD, held.to_vec()),
        ("end", items_sql::ITEM_END, with(&[&end[..], &[Integer(0), Integer(0)]].concat())),
        ("release", items_sql::ITEM_RELEASE, with(&[Integer(1), Integer(1), Null, Null])),
        ("recover", items_sql::ITEM_RECOVER, with(&[text("waiting"), Integer(5), Null, Null, Integer(5)])),
        ("lost", items_sql::ITEMS_LOST, vec![late.clone(), text("h"), Integer(500), text("[]")]),
        ("suspects", items_sql::SUSPECTS_OF_HOST, vec![text("h"), Integer(2)]),
        ("renew", items_sql::ITEMS_RENEW, vec![text("h"), late, text(r#"["a"]"#)]),
        ("by_keys", items_sql::ITEMS_BY_KEYS, keys),
        ("get", items_sql::ITEM_GET, vec![wallet.clone(), text("key-7")]),
        ("add", items_sql::ITEM_ADD, add),
        ("refresh", items_sql::ITEM_REFRESH, vec![text("7"), Integer(1), text("{}"), text("r"), text("r")]),
        ("seen", items_sql::ITEM_SEEN, vec![text("7"), text("r")]),
        (
            "reopen",
            items_sql::ITEM_REOPEN,
            [&[text("7"), Integer(1), text("{}"), text("r")][..], &[Integer(5), Integer(1)]].concat(),
        ),
        ("open_count", items_sql::ITEMS_OPEN_COUNT, vec![wallet, Integer(500)]),
        ("known", items_sql::ATTEMPT_KNOWN, held.to_vec()),
    ]
}

fn of_runs_and_events() -> Vec<Hot> {
    let wallet = || text("wallet");
    let held = [text("7"), Integer(0), text("a")];
    let page = [Null, Integer(1), Integer(1), Integer(1), Integer(1), Integer(1), Null, Null, Null];
    let late = Integer(9_999_999);
    let event = [
        text("n"),
        Integer(1),
        text("t"),
        text("k"),
        text("{}"),
        text("wallet"),
        text("7"),
        Integer(1),
        Integer(5),
    ];
    vec![
        ("run_claim", runs_sql::RUN_CLAIM, vec![text("a"), text("h"), Integer(1), wallet(), Integer(5)]),
        ("run_open", runs_sql::RUN_OPEN_OF, vec![wallet()]),
        ("runs_renew", runs_sql::RUNS_RENEW, vec![text("h"), late.clone(), text(r#"["a"]"#)]),
        ("run_page", runs_sql::RUN_PAGE, [&held[..], &page].concat()),
        ("run_discovered", runs_sql::RUN_DISCOVERED, [&held[..], &[Integer(1), Integer(0)]].concat()),
        ("run_done", runs_sql::RUN_DONE, vec![text("7"), Integer(1), Integer(0), Integer(1)]),
        ("tick", jobs_sql::TICK_ADD, vec![wallet(), Integer(200_001), text("ran"), Null, Integer(5)]),
        ("tick_buffered", jobs_sql::TICK_BUFFERED, vec![wallet()]),
        ("events", events_sql::EVENTS_CLAIM, vec![text(r#"["t", "u"]"#), late.clone(), late, Integer(64)]),
        ("event", events_sql::EVENT_ADD, event.to_vec()),
        ("delivered", events_sql::EVENT_DELIVERED, vec![text("7"), Integer(5)]),
        ("failed", events_sql::EVENT_FAILED, vec![text("7"), Integer(5), text("e"), Null]),
        ("kv_get", events_sql::KV_GET, vec![wallet(), text("b"), text("key-7"), Integer(5)]),
        (
            "kv_put",
            events_sql::KV_PUT,
            vec![wallet(), text("b"), text("key-7"), Blob(vec![1]), Integer(5), Null],
        ),
    ]
}

fn hot() -> Vec<Hot> {
    of_items().into_iter().chain(of_runs_and_events()).collect()
}

const TABLES: [&str; 6] = ["item", "run", "event", "attempt", "tick", "kv"];

/// Fills the tables. `numbers` generates rows in the way of each database.
fn fill(numbers: impl Fn(u32) -> String) -> String {
    let (many, some) = (numbers(100_000), numbers(30_000));
    let texts = [
        format!(
            "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_at_ms, updated_at_ms)
            SELECT CAST(i AS TEXT), 'wallet', 'key-' || i, '{{}}', 'waiting', i, 1, 1 FROM {many}"
        ),
        format!(
            "INSERT INTO run (id, job, started_by, state, created_at_ms)
            SELECT CAST(i AS TEXT), 'wallet', 's', 'finished', i FROM {some}"
        ),
        format!(
            "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
            SELECT CAST(i AS TEXT), i, CASE WHEN i % 2 = 0 THEN 't' ELSE 'u' END, 'k' || i, '{{}}', 'wallet', '7', 1, i FROM {some}"
        ),
        format!(
            "INSERT INTO attempt (item_id, epoch, attempt_id, job, item_key, number, verdict, log, host_id, started_at_ms,
                ended_at_ms, wall_us, memory_bytes_max)
            SELECT CAST(i AS TEXT), 1, 'a', 'wallet', 'key-' || i, 1, 'resolved', '', 'h', 1, 2, 1, 1 FROM {some}"
        ),
        format!("INSERT INTO tick (job, at_ms, fate, decided_at_ms) SELECT 'wallet', i, 'ran', i FROM {some}"),
        format!(
            "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms)
            SELECT 'wallet', 'b', 'key-' || i, CAST('x' AS BYTEA), 1 FROM {some}"
        ),
    ];
    texts.join("; ")
}

async fn execute(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

fn literal(value: &Value) -> (&'static str, String) {
    match value {
        Text(text) => ("text", format!("'{text}'")),
        Integer(number) => ("bigint", number.to_string()),
        Blob(_) => ("bytea", "'x'".to_owned()),
        _ => ("unknown", "NULL".to_owned()),
    }
}

fn list(values: &[Value], part: impl Fn((&'static str, String)) -> String) -> String {
    values.iter().map(|value| part(literal(value))).collect::<Vec<_>>().join(", ")
}

/// Prepares the statements after `before`, so that their plans are cached; then fills the tables.
async fn plans_visit_few_rows(t: T, mode: &str, before: &str, after: &str) {
    let Driver::Postgres(server) = &t.store.db.driver else { panic!("a case of Postgres") };
    let mut conn = server.acquire().await.unwrap();
    for table in TABLES {
        execute(&mut conn, &format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
        execute(&mut conn, &format!("{before} {table}")).await;
    }
    execute(&mut conn, &format!("SET plan_cache_mode = force_{mode}_plan")).await;
    for (name, sql, values) in hot() {
        let (types, values) = (list(&values, |(kind, _)| kind.to_owned()), list(&values, |(_, text)| text));
        execute(&mut conn, &format!("PREPARE hot_{name} ({types}) AS {}", sql.postgres())).await;
        execute(&mut conn, &format!("BEGIN; EXECUTE hot_{name} ({values}); ROLLBACK")).await;
    }
    execute(&mut conn, &fill(|rows| format!("generate_series(1, {rows}) AS i"))).await;
    for table in TABLES {
        execute(&mut conn, &format!("{after} {table}")).await;
    }
    for (name, _, values) in hot() {
        execute(&mut conn, "BEGIN").await;
        let values = list(&values, |(_, text)| text);
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot_{name} ({values})");
        let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *conn).await.unwrap();
        execute(&mut conn, "ROLLBACK").await;
        let plan: serde_json::Value = row.try_get_unchecked::<String, _>(0).unwrap().parse().unwrap();
        let visited = visited(&plan[0]["Plan"]);
        assert!(visited <= VISITED_MAX, "{name} visits {visited} rows in one node: {plan:#}");
    }
}

fn visited(node: &serde_json::Value) -> f64 {
    let rows = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
    let rows: f64 = rows.iter().map(|key| node[key].as_f64().unwrap_or(0.0)).sum();
    let own = rows * node["Actual Loops"].as_f64().unwrap_or(1.0);
    let inner = node["Plans"].as_array().into_iter().flatten().map(visited);
    inner.fold(own, f64::max)
}

/// Used instead of ANALYZE: does not change the statistics.
const NOTHING: &str = "SELECT 1 AS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_analysed() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "generic", NOTHING, NOTHING)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analysed_while_empty() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "generic", "VACUUM ANALYZE", NOTHING)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analysed_while_full() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "generic", NOTHING, "ANALYZE")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_plans_with_statistics_of_empty_tables() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "custom", "VACUUM ANALYZE", NOTHING)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_plans_with_statistics_of_full_tables() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "custom", NOTHING, "ANALYZE")).await;
}

async fn statements_take_few_steps(t: T, before: &str, after: &str) {
    let mut conn = SqliteConnection::connect(&t.url).await.unwrap();
    let numbers = |rows| {
        format!(
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n)"
        )
    };
    for sql in [before, &fill(numbers), after] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    // SQLite reads the statistics when a connection opens the database.
    let mut conn = SqliteConnection::connect(&t.url).await.unwrap();
    for (name, sql, values) in hot() {
        let looks = Arc::new(AtomicU64::new(0));
        let seen = looks.clone();
        let mut tx = conn.begin().await.unwrap();
        tx.lock_handle().await.unwrap().set_progress_handler(STEPS_BETWEEN_LOOKS, move || {
            seen.fetch_add(1, Ordering::Relaxed);
            true
        });
        bind(sql.sqlite(), &values).fetch_all(&mut *tx).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        tx.lock_handle().await.unwrap().remove_progress_handler();
        tx.rollback().await.unwrap();
        let steps = looks.load(Ordering::Relaxed) * u64::from(STEPS_BETWEEN_LOOKS.unsigned_abs());
        let plan = bind(&format!("EXPLAIN QUERY PLAN {}", sql.sqlite()), &values)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps <= STEPS_MAX, "{name} takes {steps} steps: {plan:#?}");
        let scan = plan.iter().find(|line| TABLES.iter().any(|table| **line == format!("SCAN {table}")));
        assert_eq!(scan, None, "{name}");
    }
}

fn bind<'a>(sql: &str, values: &'a [Value]) -> sqlx::query::Query<'a, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Integer(number) => query.bind(*number),
        Text(text) => query.bind(text.as_str()),
        Blob(bytes) => query.bind(bytes.as_slice()),
        _ => query.bind(None::<i64>),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_never_analysed() {
    run(Kind::Sqlite, |t| statements_take_few_steps(t, "SELECT 1", "SELECT 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_analysed_while_empty() {
    run(Kind::Sqlite, |t| statements_take_few_steps(t, "ANALYZE", "SELECT 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_analysed_while_full() {
    run(Kind::Sqlite, |t| statements_take_few_steps(t, "SELECT 1", "ANALYZE")).await;
}
