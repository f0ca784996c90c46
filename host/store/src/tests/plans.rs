//! Plans of hot statements do not depend on what the planner's statistics say.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::support::{Kind, T, run};
use crate::db::Db;
use crate::sql::{flow, items, runs};

/// With the arguments of an execution.
const HOT: [(&str, &str, &str); 8] = [
    ("claim", "items.ITEM_CLAIM", "('a', 'h', 9999999, 9999999, 'wallet', 64)"),
    ("due", "flow.ITEMS_DUE", "('wallet', 9999999, ':', '[]', '[]', 64)"),
    ("picked", "items.ITEM_CLAIM_PICKED", r#"('a', 'h', 9999999, 9999999, '["1", "2"]')"#),
    ("next_due", "items.ITEM_NEXT_DUE", "('wallet')"),
    ("held", "items.ITEM_HELD", "('7', 0, 'a')"),
    ("released", "items.ITEM_RELEASE", "('7', 0, 'a', 1, 1, NULL, NULL)"),
    ("renew", "items.ITEMS_RENEW", r#"('h', 9999999, '["a"]')"#),
    ("done", "runs.RUN_DONE", "('r', 1, 0, 1)"),
];

/// Rows that one node of a plan may visit, of 100,000.
const VISITED_MAX: f64 = 1_000.0;

const FILL: &str =
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_at_ms, updated_at_ms)
    SELECT CAST(i AS TEXT), 'wallet', 'key-' || i, '{}', 'waiting', i, 1, 1 FROM generate_series(1, 100000) AS i";

fn text(name: &str) -> &'static str {
    let sql = match name {
        "items.ITEM_CLAIM" => items::ITEM_CLAIM,
        "flow.ITEMS_DUE" => flow::ITEMS_DUE,
        "items.ITEM_CLAIM_PICKED" => items::ITEM_CLAIM_PICKED,
        "items.ITEM_NEXT_DUE" => items::ITEM_NEXT_DUE,
        "items.ITEM_HELD" => items::ITEM_HELD,
        "items.ITEM_RELEASE" => items::ITEM_RELEASE,
        "items.ITEMS_RENEW" => items::ITEMS_RENEW,
        _ => runs::RUN_DONE,
    };
    sql.postgres()
}

async fn execute(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// Statements are prepared, and their plans kept, after `before`; then the table is filled.
async fn plans_visit_few_rows(t: T, before: &str, after: &str) {
    let Db::Postgres(pool) = &t.store.db else { panic!("a case of Postgres") };
    let mut conn = pool.acquire().await.unwrap();
    execute(&mut conn, "ALTER TABLE item SET (autovacuum_enabled = false)").await;
    execute(&mut conn, before).await;
    execute(&mut conn, "SET plan_cache_mode = force_generic_plan").await;
    for (name, statement, values) in HOT {
        execute(&mut conn, &format!("PREPARE {name} AS {}", text(statement))).await;
        execute(&mut conn, &format!("BEGIN; EXECUTE {name} {values}; ROLLBACK")).await;
    }
    execute(&mut conn, FILL).await;
    execute(&mut conn, after).await;
    for (name, _, values) in HOT {
        execute(&mut conn, "BEGIN").await;
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name} {values}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_analysed() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "SELECT 1", "SELECT 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analysed_while_empty() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "VACUUM ANALYZE item", "SELECT 1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn analysed_while_full() {
    run(Kind::Postgres, |t| plans_visit_few_rows(t, "SELECT 1", "ANALYZE item")).await;
}
