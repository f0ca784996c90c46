//! Statements of a malicious plugin: refused at the declaration, by the database, or at a limit of time or
//! size. Afterwards, nothing has changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::job::{Access, JobSpec};
use domain::lease::Hold;
use domain::plugin::{Describe, Statement};
use domain::scope::Scope;
use serde_json::json;
use test_support::{Kind, execute, on_both};

use super::sql::granted;
use super::support::{SHOP, T, config, lease};
use crate::Store;

on_both! {
    hostile_statements_have_no_effect,
    role_named_like_the_hosts_schema_cannot_reach_it,
}

/// The time limit of a statement.
const TIME_MAX: Duration = Duration::from_millis(200);
/// Without a limit, some of the statements would run for ever.
const PATIENCE: Duration = Duration::from_secs(60);

const GOODS: &str = "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT)";

/// Each statement is tried on both databases, with a grant to write.
const HOSTILE: &[&str] = &[
    // Several statements, or one that is not allowed.
    "SELECT 1; DROP TABLE goods",
    "SELECT 1;;DELETE FROM goods",
    "SELECT 1 -- ; DROP TABLE goods",
    "SELECT /* hidden */ 1",
    "SELECT $$'$$; DROP TABLE goods; SELECT $$'$$",
    "SELECT E'\\''; DROP TABLE goods; SELECT E'\\''",
    "SELECT ['] FROM goods; DROP TABLE goods; SELECT [']",
    "SELECT \"'\"; DROP TABLE goods; SELECT \"'\"",
    "BEGIN",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "END",
    "ABORT",
    "SAVEPOINT a",
    "RELEASE a",
    "ROLLBACK TO a",
    "PREPARE TRANSACTION 'a'",
    "SET ROLE postgres",
    "SET statement_timeout = 0",
    "SET default_transaction_read_only = off",
    "SET SESSION AUTHORIZATION postgres",
    "RESET ALL",
    "DISCARD ALL",
    "LOCK TABLE goods",
    "LISTEN tidemill_work",
    "NOTIFY tidemill_work",
    "UNLISTEN *",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "COPY goods TO PROGRAM 'sh'",
    "COPY goods FROM '/etc/passwd'",
    "COPY goods TO STDOUT",
    "DO 'BEGIN END'",
    "CALL p()",
    "CREATE TABLE stolen (a INTEGER)",
    "CREATE ROLE mallory SUPERUSER",
    "CREATE EXTENSION dblink",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER SYSTEM SET fsync = off",
    "ALTER ROLE postgres PASSWORD 'x'",
    "ALTER TABLE goods ADD COLUMN x INTEGER",
    "DROP TABLE goods",
    "TRUNCATE goods",
    "GRANT ALL ON goods TO PUBLIC",
    "VACUUM INTO '/tmp/stolen.db'",
    "ATTACH DATABASE '/tmp/stolen.db' AS stolen",
    "DETACH DATABASE main",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "REINDEX goods",
    "ANALYZE",
    "EXPLAIN ANALYZE DELETE FROM goods",
    "REPLACE INTO goods VALUES (1, 'x')",
    "VALUES (1)",
    "TABLE goods",
    "SHOW ALL",
    // Functions that reach beyond the tables.
    "SELECT pg_sleep(60)",
    "SELECT pg_catalog . pg_sleep_for('1 minute')",
    "SELECT U&\"\\0070g_sleep\"(60)",
    "SELECT \"'\", pg_sleep(60), \"'\"",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/stolen')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT pg_notify('tidemill_work', 'x')",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT current_setting('data_directory')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT dblink('host=127.0.0.1', 'DROP TABLE goods')",
    "SELECT dblink_exec('host=127.0.0.1', 'DROP TABLE goods')",
    "SELECT query_to_xml('DELETE FROM goods', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT * FROM ts_stat('SELECT pg_sleep(60)')",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "SELECT * FROM pragma_database_list",
    "INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, 'x')",
    "UPDATE \"sqlite_master\" SET sql = 'x'",
    // Creating tables, including temporary ones that hide another table from the connection's next user.
    "SELECT 1 AS id, 'x' AS name INTO stolen",
    "SELECT 1 AS id, 'x' AS name INTO TEMP goods",
    "SELECT 1 AS id, 'x' AS\"name\"INTO TEMPORARY goods",
    "SELECT 1 AS insert INTO TEMP goods",
    "WITH x AS (SELECT 1) SELECT (1) insert INTO TEMP goods FROM x",
    // The host's own tables.
    "UPDATE tidemill.item SET state = 'resolved'",
    "DELETE FROM \"tidemill\".\"audit\"",
    "INSERT INTO Tidemill . kv VALUES ('x', 'x', 'x')",
    "WITH gone AS (DELETE FROM tidemill.item RETURNING id) SELECT * FROM gone",
    // Endless or too large.
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT 1 FROM c), d AS (SELECT a.x FROM c AS a, c AS b) SELECT COUNT(*) FROM d",
    "INSERT INTO goods (name) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'x' FROM c",
    "SELECT COUNT(*) FROM generate_series(1, 1000000000) AS a, generate_series(1, 1000000000) AS b",
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT repeat('x', 1000000000)",
    "SELECT string_agg(repeat('x', 1000000), '') FROM generate_series(1, 1000)",
    "SELECT replace(hex(zeroblob(30000000)), '0', 'xxxxxxxxxx')",
];

fn with_a_grant_to_write() -> JobSpec {
    let mut job = granted(Access::ReadWrite);
    job.limits.sql_time = TIME_MAX;
    job
}

fn declared(sql: &str) -> Result<Statement, String> {
    let statement = json!({"datasource": SHOP, "sql": sql, "writes": true});
    let document = json!({"name": "hostile", "version": "1.0.0", "statements": {"hostile": statement}});
    let mut describe = Describe::parse(&document.to_string())?;
    Ok(describe.statements.remove("hostile").expect("it was declared"))
}

async fn hostile_statements_have_no_effect(t: T) {
    execute(&t.shop_url, GOODS).await;
    execute(&t.shop_url, "INSERT INTO goods VALUES (1, 'one')").await;
    let job = with_a_grant_to_write();
    t.discover(&job, &["a"], 0).await;
    let item = t.store.items().claim(&job, lease(1, 0), 1).await.unwrap().remove(0);
    let before = t.everything().await;
    for sql in HOSTILE {
        let began = Instant::now();
        let Ok(statement) = declared(sql) else { continue };
        if t.store.attempts().check_statement(&statement).await.is_ok() {
            let scope = t.store.scope_of_attempt(Arc::new(job.clone()), item.clone(), Hold::without_end());
            let done = scope.sql_query(&statement, vec![]).await;
            assert!(done.is_err(), "{sql}: {done:?}");
            scope.abort().await;
        }
        let took = began.elapsed();
        assert!(took < PATIENCE, "{sql}: {took:?}");
    }
    assert_eq!(t.everything().await, before, "nothing of the host changed");
    let scope = t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end());
    let goods = declared("SELECT id, name FROM goods").unwrap();
    let rows = scope.sql_query(&goods, vec![]).await.unwrap().rows;
    assert_eq!(format!("{rows:?}"), r#"[[Integer(1), Text("one")]]"#);
    scope.abort().await;
    if t.kind == Kind::Postgres {
        let locks = "SELECT COUNT(*) AS n FROM pg_locks WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(t.number(locks).await, 0);
    }
}

/// As in docs/install.md: one role for the host and, here, also for a datasource in the same database.
async fn role_named_like_the_hosts_schema_cannot_reach_it(t: T) {
    if t.kind == Kind::Sqlite {
        return; // It has neither roles nor schemas.
    }
    let role = "DO $$ BEGIN CREATE ROLE tidemill LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        GRANT USAGE ON SCHEMA tidemill TO tidemill; GRANT ALL ON ALL TABLES IN SCHEMA tidemill TO tidemill";
    t.tamper(role).await.unwrap();
    let shop = t.url.replacen("//postgres@", "//tidemill@", 1);
    assert_ne!(shop, t.url, "the server's own role is another one");
    let store = Store::open(&config(&t.url, &shop)).await.unwrap();
    let refused =
        store.attempts().check_statement(&declared("UPDATE item SET state = 'resolved'").unwrap()).await;
    assert_eq!(refused, Err("relation \"item\" does not exist".to_owned()));
    assert_eq!(store.attempts().check_statement(&declared("SELECT 1").unwrap()).await, Ok(()));
    store.close().await;
}
