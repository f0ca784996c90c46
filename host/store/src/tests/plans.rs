//! Plans of hot statements do not depend on the planner's statistics: a queue's table changes completely
//! within seconds, while statistics and cached plans do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::id::{AttemptId, HostId, ItemId, RunId};
use domain::scope::Value::{Blob, Integer, Text};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _, Sqlite, SqliteConnection};
use test_support::{Kind, run};
use uuid::Uuid;

use super::support::T;
use crate::alerts::sql as alerts_sql;
use crate::attempts::sql as attempts_sql;
use crate::audit::sql as audit_sql;
use crate::db::arg::{self, Bound};
use crate::db::sql::Sql;
use crate::db::sql::resolve::{Constants, Parameter, Resolved};
use crate::db::{Arg, Driver, Rows, args, row};
use crate::events::sql as events_sql;
use crate::items::claims::sql as claims_sql;
use crate::items::flow::sql as flow_sql;
use crate::items::sql as items_sql;
use crate::items::{enqueue, places, recovery};
use crate::jobs::sql as jobs_sql;
use crate::runs::sql as runs_sql;

/// Maximum rows that one node of a Postgres plan may visit, out of 30,000 and more.
const VISITED_MAX: f64 = 1_000.0;
/// Maximum SQLite VM steps of one statement. A scan of one of these tables takes more than 200,000.
const STEPS_MAX: u64 = 50_000;
const STEPS_BETWEEN_LOOKS: i32 = 100;
/// A time after all others.
const LATE: i64 = 9_999_999;

/// A hot statement: its name, its text and the arguments of one execution.
type Hot = (&'static str, Sql, Vec<(&'static str, Arg)>);

/// A hot statement with one of its texts for Postgres.
type Form = (String, &'static Resolved, Vec<(&'static str, Arg)>);

fn hot_of<const N: usize>(name: &'static str, sql: Sql, args: [(&'static str, Arg); N]) -> Hot {
    (name, sql, args.to_vec())
}

fn item(number: u128) -> ItemId {
    ItemId(Uuid::from_u128(number))
}

fn claim() -> AttemptId {
    AttemptId(Uuid::from_u128(1))
}

fn run_id() -> RunId {
    RunId(Uuid::from_u128(7))
}

fn one<const N: usize>(row: [Arg; N]) -> Rows {
    [row].into_iter().collect()
}

fn of_claims() -> Vec<Hot> {
    let (wallet, host) = ("wallet", HostId(Uuid::from_u128(1)));
    let held = || one(row![item(7), 1_i64]);
    let due = || one(row![wallet, 1_i64, 7_i64, item(7)]);
    let take = args! { claim: claim(), now: LATE, until: LATE, job: wallet, host: host.to_string(), incarnation: "i", taken: held() };
    let due_above = |floor_at: i64, floor: ItemId| {
        args! { job: wallet, now: LATE, limit: 64_i64, floor_at: floor_at, floor_item: floor }
    };
    let due_of_prefix = args! {
        job: wallet, priority: 1_i64, now: LATE, separator: ":", taken_prefixes: Rows::default(),
        picked: one(row![item(8)]), limit: 64_i64,
    };
    vec![
        hot_of("due_take", claims_sql::DUE_TAKE, due_above(i64::MIN, item(0))),
        hot_of("due_take_above", claims_sql::DUE_TAKE, due_above(7, item(7))),
        hot_of("items_taken", claims_sql::ITEMS_TAKEN, args! { taken: one(row![item(7)]) }),
        hot_of("claim_add", claims_sql::CLAIM_ADD, take),
        hot_of("next_due", claims_sql::NEXT_DUE, args! { job: wallet }),
        ("next_due_by_job", claims_sql::NEXT_DUE_BY_JOB, Vec::new()),
        hot_of("due_of_prefix", flow_sql::ITEMS_DUE, due_of_prefix),
        hot_of("due_remove", places::DUE_REMOVE, args! { taken: due() }),
        hot_of("running", flow_sql::RUNNING_COUNT, args! { job: wallet }),
        hot_of("running_keys", flow_sql::RUNNING_KEYS, args! { job: wallet }),
        hot_of("holds", claims_sql::CLAIM_HOLDS, args! { item: item(7), epoch: 1_i64, claim: claim() }),
        hot_of("claims_lock", claims_sql::CLAIMS_LOCK, args! { asked: one(row![claim()]) }),
        hot_of("items_lock", claims_sql::ITEMS_LOCK, args! { asked: held() }),
        hot_of("claims_close", claims_sql::CLAIMS_CLOSE, args! { closed: one(row![claim()]) }),
        hot_of(
            "renew",
            claims_sql::CLAIMS_RENEW,
            args! { host: host.to_string(), incarnation: "i", until: LATE, held: one(row![claim()]) },
        ),
        hot_of(
            "claims_lost",
            recovery::CLAIMS_LOST,
            args! { now: LATE, former: "h", kept: Rows::default(), limit: 4_i64 },
        ),
        hot_of("items_lost", recovery::ITEMS_LOST, args! { lost: one(row![claim()]) }),
        hot_of("suspects", recovery::SUSPECTS_OF_HOST, args! { host: "h", crashes: 2_i64 }),
        hot_of("counts", items_sql::ITEM_COUNTS, []),
        hot_of("running_counts", items_sql::RUNNING_COUNTS, []),
        hot_of("open_count", items_sql::ITEMS_OPEN_COUNT, args! { job: wallet, limit: 500_i64 }),
    ]
}

fn of_attempts() -> Vec<Hot> {
    let null = Option::<&str>::None;
    let ended = row![
        item(7),
        1_i64,
        "resolved",
        1_i64,
        1_i64,
        0_i64,
        1_i64,
        0_i64,
        null,
        null,
        null,
        1_i64,
        1_i64,
        5_i64
    ];
    let attempt = row![
        item(7),
        1_i64,
        claim(),
        "wallet",
        1_i64,
        "resolved",
        null,
        null,
        null,
        "",
        HostId(Uuid::from_u128(1)),
        Option::<Vec<u8>>::None,
        1_i64,
        2_i64,
        1_i64,
        1_i64,
        1_i64,
        0_i64,
        0_i64,
        Option::<RunId>::None
    ];
    let released = row![item(7), 1_i64, 1_i64, null, null, 1_i64];
    let lost = row![item(7), 1_i64, "scheduled", 5_i64, null, null];
    let known = row![item(7), 1_i64, claim()];
    vec![
        hot_of("items_end", attempts_sql::ITEMS_END, args! { ended: one(ended.clone()) }),
        hot_of("items_end_at_once", attempts_sql::ITEMS_END_AT_ONCE, args! { ended: one(ended) }),
        hot_of("items_release", attempts_sql::ITEMS_RELEASE, args! { released: one(released) }),
        hot_of("items_recover", recovery::ITEMS_RECOVER, args! { lost: one(lost), now: 5_i64 }),
        hot_of("attempts_add", attempts_sql::ATTEMPTS_ADD, args! { ended: one(attempt) }),
        hot_of("attempts_known", attempts_sql::ATTEMPTS_KNOWN, args! { asked: one(known) }),
    ]
}

fn of_items() -> Vec<Hot> {
    let wallet = "wallet";
    let keys: Rows = ["key-7", "key-99999", "none"].into_iter().map(|key| row![key]).collect();
    let ids = || one(row![item(7)]);
    let new =
        args! { job: wallet, now: 1_i64, run: run_id(), added: one(row![item(999_999), "key-new", "{}"]) };
    let asked = || args! { job: wallet, asked: one(row!["key-7"]) };
    let added = one(row![item(999_999), "key-new", "{}", "ada"]);
    let list = |state: &'static str| args! { job: wallet, state: state, limit: 64_i64 };
    let due = args! { job: wallet, state: "scheduled", attempted: 0_i64, limit: 64_i64 };
    vec![
        hot_of("by_keys", runs_sql::ITEMS_BY_KEYS, args! { job: wallet, found: keys }),
        hot_of("by_ids", runs_sql::ITEMS_BY_IDS, args! { found: ids() }),
        hot_of("found_lock", runs_sql::ITEMS_FOUND_LOCK, args! { found: ids() }),
        hot_of("due_lock", runs_sql::DUE_LOCK, args! { queued: one(row![wallet, 1_i64, 7_i64, item(7)]) }),
        hot_of("new", runs_sql::ITEMS_NEW, new),
        hot_of(
            "refresh",
            runs_sql::ITEMS_REFRESH,
            args! { run: run_id(), refreshed: one(row![item(7), "{}", 1_i64]) },
        ),
        hot_of(
            "found_again",
            runs_sql::ITEMS_FOUND_AGAIN,
            args! { run: run_id(), now: 5_i64, reopened: one(row![item(7), "{}", 1_i64]) },
        ),
        hot_of("absent", runs_sql::ITEMS_RESOLVE_ABSENT, args! { absent: ids(), now: 5_i64 }),
        hot_of("key_known", enqueue::KEY_KNOWN, asked()),
        hot_of("resolved_lock", enqueue::RESOLVED_LOCK, asked()),
        hot_of("enqueue", enqueue::ITEMS_ADD, args! { job: wallet, added: added, now: 5_i64 }),
        hot_of(
            "due_add_all",
            enqueue::DUE_ADD_ALL,
            args! { job: wallet, priority: 1_i64, now: 5_i64, added: one(row![item(999_999)]) },
        ),
        hot_of(
            "due_add_existing",
            enqueue::DUE_ADD_EXISTING,
            args! { priority: 1_i64, now: 5_i64, added: one(row![item(999_999)]) },
        ),
        hot_of("get", items_sql::ITEM_GET, args! { job: wallet, key: "key-7" }),
        hot_of("lock", items_sql::ITEM_LOCK, args! { job: wallet, key: "key-7" }),
        hot_of("newest", items_sql::ITEMS_NEWEST, args! { state: "scheduled", limit: 64_i64 }),
        hot_of("newest_of_job", items_sql::ITEMS_NEWEST_OF_JOB, list("scheduled")),
        hot_of("due_of_job", items_sql::ITEMS_DUE_OF_JOB, due),
        hot_of("parked", items_sql::ITEMS_PARKED, args! { state: "manual_required", limit: 64_i64 }),
        hot_of("parked_of_job", items_sql::ITEMS_PARKED_OF_JOB, list("manual_required")),
        hot_of("list_running", items_sql::ITEMS_RUNNING, args! { job: wallet, limit: 64_i64 }),
    ]
}

fn of_runs() -> Vec<Hot> {
    let (wallet, null) = ("wallet", Option::<i64>::None);
    let (run, attempt) = (run_id(), claim().to_string());
    let run_claim = args! { claim: attempt.as_str(), host: "h", until: 1_i64, job: wallet, before: 5_i64 };
    let runs_renew = args! { host: "h", until: LATE, held: one(row![claim()]) };
    let run_discovered = args! { run: run, epoch: 0_i64, claim: attempt.as_str(), now: 1_i64, absent: 0_i64 };
    let run_done = args! { run: run, attempts: 1_i64, failed: 0_i64, ended_at: 1_i64 };
    let tick = args! { job: wallet, at: 200_001_i64, fate: "ran", run: null, now: 5_i64 };
    vec![
        hot_of("run_claim", runs_sql::RUN_CLAIM, run_claim),
        hot_of("run_open", runs_sql::RUN_OPEN_OF, args! { job: wallet }),
        hot_of("runs_renew", runs_sql::RUNS_RENEW, runs_renew),
        hot_of("runs_lock", runs_sql::RUNS_LOCK, args! { runs: one(row![run]) }),
        hot_of(
            "run_page",
            runs_sql::RUN_PAGE,
            args! {
                run: run, epoch: 0_i64, claim: attempt.as_str(), cursor: null, found: 1_i64, queued: 1_i64,
                waiting: 1_i64, over_cap: 1_i64, manual: 1_i64, digest: null, code: null, message: null,
            },
        ),
        hot_of("run_discovered", runs_sql::RUN_DISCOVERED, run_discovered),
        hot_of("run_done", runs_sql::RUN_DONE, run_done),
        hot_of("tick", jobs_sql::TICK_ADD, tick),
        hot_of("tick_buffered", jobs_sql::TICK_BUFFERED, args! { job: wallet }),
    ]
}

fn of_effects() -> Vec<Hot> {
    let (wallet, bytes, null) = ("wallet", || vec![1_u8], Option::<i64>::None);
    let key = || one(row![wallet, "b", "key-7"]);
    let write = |key: &str| one(row![wallet, "b", key, bytes(), 5_i64, null]);
    let event = one(row!["n", 1_i64, "t", "k", "{}", wallet, "7", 1_i64, 5_i64]);
    let record = one(row!["n", 1_i64, "job wallet", "reset", wallet, "order 7", ""]);
    let raised = one(row!["n", wallet, "k", "a", "error", "m", "", 1_i64, 1_i64, 1_i64]);
    let counted = one(row!["m", wallet, "k", "a", 1_i64, 1_i64, 1_i64]);
    vec![
        hot_of("events_add", events_sql::EVENTS_ADD, args! { added: event }),
        hot_of("records_add", audit_sql::AUDIT_ADD, args! { added: record }),
        hot_of("alerts_raise", alerts_sql::ALERTS_RAISE, args! { raised: raised }),
        hot_of("alerts_count", alerts_sql::ALERTS_COUNT, args! { counted: counted }),
        hot_of("alerts_words", alerts_sql::ALERTS_WORDS, args! { worded: one(row!["n", "error", "m", ""]) }),
        hot_of("kv_get", events_sql::KV_GET, args! { job: wallet, bucket: "b", key: "key-7", now: 5_i64 }),
        hot_of("kv_found", events_sql::KV_FOUND, args! { asked: one(row![wallet, "b", "key-7", bytes()]) }),
        hot_of("kv_add", events_sql::KV_ADD, args! { added: write("key-new") }),
        hot_of("kv_put", events_sql::KV_PUT, args! { put: write("key-7") }),
        hot_of("kv_remove", events_sql::KV_REMOVE, args! { removed: key() }),
    ]
}

fn of_deliveries() -> Vec<Hot> {
    let topics: Rows = ["t", "u"].into_iter().map(|topic| row![topic]).collect();
    let claim = args! { topics: topics, now: LATE, until: LATE, events: 64_i64, bytes: 1_000_000_i64 };
    let heads = one(row!["t", "k8", 0_i64, 0_i64]);
    let tried = one(row!["7", 1_i64, 5_i64, "e", Option::<i64>::None]);
    vec![
        hot_of("events", events_sql::EVENTS_CLAIM, claim),
        hot_of(
            "following",
            events_sql::EVENTS_FOLLOWING,
            args! { heads: heads, each: 64_i64, bytes: 1_000_000_i64 },
        ),
        hot_of("delivered", events_sql::EVENTS_DELIVERED, args! { delivered: one(row!["7"]), now: 5_i64 }),
        hot_of("events_lock", events_sql::EVENTS_LOCK, args! { asked: one(row!["7"]) }),
        hot_of("tried", events_sql::EVENTS_TRIED, args! { tried: tried }),
    ]
}

fn hot() -> Vec<Hot> {
    [of_claims(), of_attempts(), of_items(), of_runs(), of_effects(), of_deliveries()].concat()
}

const TABLES: [&str; 9] = ["item", "due", "claim", "parked", "run", "event", "attempt", "tick", "kv"];

/// Fills the tables. `numbers` generates rows, and `id` an id from a number, in the way of each database.
fn fill(numbers: impl Fn(u32) -> String, id: impl Fn(&str) -> String) -> String {
    let (many, some, id) = (numbers(100_000), numbers(30_000), id("i"));
    let texts = [
        format!(
            "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_at_ms, updated_at_ms)
            SELECT {id}, 'wallet', 'key-' || i, '{{}}', 'scheduled', i, 1, 1 FROM {many}"
        ),
        format!("INSERT INTO due (job, priority, due_at_ms, item_id) SELECT 'wallet', 1, i, {id} FROM {many}"),
        format!(
            "INSERT INTO parked (job, state, item_id, since_ms)
            SELECT 'wallet', 'manual_required', {id}, i FROM {some}"
        ),
        format!(
            "INSERT INTO run (id, job, started_by, state, created_at_ms)
            SELECT {id}, 'wallet', 's', 'finished', i FROM {some}"
        ),
        format!(
            "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
            SELECT CAST(i AS TEXT), i, CASE WHEN i % 2 = 0 THEN 't' ELSE 'u' END, 'k' || i, '{{}}', 'wallet', '7', 1, i FROM {some}"
        ),
        format!(
            "INSERT INTO attempt (item_id, epoch, claim_id, job, number, verdict, log, host_id, started_at_ms,
                ended_at_ms, wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes)
            SELECT {id}, 0, {id}, 'wallet', 1, 'resolved', '', {id}, 1, 2, 1, 1, 1, 0, 0 FROM {some}"
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

/// The type and the text of an argument.
fn literal(bound: &Bound) -> (&'static str, String) {
    fn list<T>(values: &[Option<T>], text: impl Fn(&T) -> String) -> String {
        let texts = values.iter().map(|value| value.as_ref().map_or("NULL".to_owned(), &text));
        format!("'{{{}}}'", texts.collect::<Vec<_>>().join(","))
    }
    match bound {
        Bound::Value(Text(text)) => ("text", format!("'{text}'")),
        Bound::Value(Integer(number)) => ("bigint", number.to_string()),
        Bound::Value(Blob(_)) => ("bytea", "'x'".to_owned()),
        Bound::Value(_) => ("unknown", "NULL".to_owned()),
        Bound::Id(id) => ("uuid", format!("'{id}'")),
        Bound::Ids(ids) => ("uuid[]", list(ids, Uuid::to_string)),
        Bound::Integers(numbers) => ("bigint[]", list(numbers, i64::to_string)),
        Bound::Texts(texts) => ("text[]", list(texts, |text| format!("{text:?}"))),
        Bound::Blobs(blobs) => ("bytea[]", list(blobs, |_| "x".to_owned())),
    }
}

fn list(values: &[Bound], part: impl Fn((&'static str, String)) -> String) -> String {
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
    for (name, sql, args) in forms() {
        let values = arg::bind(sql, &args).unwrap();
        let types = match values.as_slice() {
            [] => String::new(),
            values => format!("({})", list(values, |(kind, _)| kind.to_owned())),
        };
        execute(&mut conn, &format!("PREPARE hot_{name} {types} AS {}", sql.text)).await;
        execute(&mut conn, &format!("BEGIN; EXECUTE hot_{name} {}; ROLLBACK", given(&values))).await;
    }
    let id = |number: &str| format!("CAST(lpad(to_hex({number}), 32, '0') AS uuid)");
    execute(&mut conn, &fill(|rows| format!("generate_series(1, {rows}) AS i"), id)).await;
    for table in TABLES {
        execute(&mut conn, &format!("{after} {table}")).await;
    }
    for (name, sql, args) in forms() {
        execute(&mut conn, "BEGIN").await;
        let values = given(&arg::bind(sql, &args).unwrap());
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot_{name} {values}");
        let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *conn).await.unwrap();
        execute(&mut conn, "ROLLBACK").await;
        let plan: serde_json::Value = row.try_get_unchecked::<String, _>(0).unwrap().parse().unwrap();
        let visited = visited(&plan[0]["Plan"]);
        assert!(visited <= VISITED_MAX, "{name} visits {visited} rows in one node: {plan:#}");
    }
}

/// Each statement, and those with a table also as if all its columns after the first were constant.
fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for (name, sql, args) in hot() {
        let columns = sql.postgres().parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Column { table, at, .. } => Some((*table, 1 << at)),
            _ => None,
        });
        let table = columns.clone().next().map(|(table, _)| table);
        let constant = columns.filter(|(name, column)| Some(*name) == table && *column > 1);
        let constants = constant.fold(0, |all, (_, column)| all | column);
        forms.push((name.to_owned(), sql.postgres(), args.clone()));
        if let Some(table) = table.filter(|_| constants > 0) {
            let special = sql.postgres_with(Constants { table, columns: constants });
            forms.push((format!("{name}_constant"), special, args));
        }
    }
    forms
}

fn given(values: &[Bound]) -> String {
    match values {
        [] => String::new(),
        values => format!("({})", list(values, |(_, text)| text)),
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
    let id = |number: &str| format!("printf('00000000-0000-0000-0000-%012x', {number})");
    for sql in [before, &fill(numbers, id), after] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    // SQLite reads the statistics when a connection opens the database.
    let mut conn = SqliteConnection::connect(&t.url).await.unwrap();
    for (name, sql, args) in hot() {
        let values = arg::bind(sql.sqlite(), &args).unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let seen = looks.clone();
        let mut tx = conn.begin().await.unwrap();
        tx.lock_handle().await.unwrap().set_progress_handler(STEPS_BETWEEN_LOOKS, move || {
            seen.fetch_add(1, Ordering::Relaxed);
            true
        });
        bind(sql.sqlite().text, &values).fetch_all(&mut *tx).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        tx.lock_handle().await.unwrap().remove_progress_handler();
        tx.rollback().await.unwrap();
        let steps = looks.load(Ordering::Relaxed) * u64::from(STEPS_BETWEEN_LOOKS.unsigned_abs());
        let plan = bind(&format!("EXPLAIN QUERY PLAN {}", sql.sqlite().text), &values)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps <= STEPS_MAX, "{name} takes {steps} steps: {plan:#?}");
        // One row for each claim of many items: it is small, and has no index beside its key.
        let large = TABLES.iter().filter(|table| **table != "claim");
        let scan = plan.iter().find(|line| large.clone().any(|table| **line == format!("SCAN {table}")));
        assert_eq!(scan, None, "{name}");
    }
}

fn bind<'a>(sql: &str, values: &'a [Bound]) -> sqlx::query::Query<'a, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Bound::Value(Integer(number)) => query.bind(*number),
        Bound::Value(Text(text)) => query.bind(text.as_str()),
        Bound::Value(Blob(bytes)) => query.bind(bytes.as_slice()),
        Bound::Id(id) => query.bind(id.to_string()),
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
