//! The description of a plugin: the document, its statements, its requests.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use serde_json::json;

use crate::flow::Flow;
use crate::job::{Access, Capability, Grants, JobSpec};
use crate::limits::Limits;
use crate::plugin::Describe;
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;

fn with_sql(sql: &str) -> Result<Describe, String> {
    let statement = json!({"datasource": "wallets", "sql": sql});
    Describe::parse(&json!({"name": "w", "version": "1", "statements": {"find": statement}}).to_string())
}

fn verdicts(texts: &[&str]) -> String {
    let line = |sql: &&str| match with_sql(sql) {
        Ok(_) => format!("{sql:?}: fine\n"),
        Err(why) => format!("{sql:?}: {}\n", why.trim_start_matches("statement \"find\": ")),
    };
    texts.iter().map(line).collect()
}

#[test]
fn a_whole_document() {
    let text = json!({
        "name": "wallet-keygen-retry", "version": "1.2.0", "summary": "Completes wallets",
        "config": {"type": "object"},
        "statements": {"find": {"datasource": "wallets", "sql": "SELECT 1", "writes": false}},
        "topics": ["MpcKeygenRequested"], "capabilities": ["keyvalue"], "a newer field": [1, 2],
    });
    let describe = Describe::parse(&text.to_string()).unwrap();
    assert_eq!((describe.name.as_str(), describe.version.as_str()), ("wallet-keygen-retry", "1.2.0"));
    assert_eq!(describe.summary, "Completes wallets");
    assert_eq!(describe.config, Some(json!({"type": "object"})));
    assert_eq!(describe.statements["find"].sql, "SELECT 1");
    assert_eq!(
        (describe.topics, describe.capabilities),
        (vec!["MpcKeygenRequested".into()], vec!["keyvalue".into()])
    );
    let least = Describe::parse(r#"{"name": "w", "version": "1"}"#).unwrap();
    let all = Describe { name: "w".into(), version: "1".into(), ..Describe::default() };
    assert_eq!(least, all);
}

#[test]
fn invalid_documents_are_refused() {
    let deep = "[".repeat(100_000);
    let texts = [
        "",
        "null",
        "{",
        "[]",
        r#"{"name": "w"}"#,
        r#"{"name": 7, "version": "1"}"#,
        r#"{"name": "w", "version": "1"} x"#,
        r#"{"name": "w", "version": "1", "statements": {"a": {"sql": "SELECT 1"}}}"#,
        r#"{"name": "w", "version": "1", "statements": {"a": {"datasource": "d", "sql": "SELECT 1", "write": true}}}"#,
        r#"{"name": "w", "version": "1", "name": "v"}"#,
        &deep,
    ];
    let report: String =
        texts.iter().map(|text| format!("{}\n", Describe::parse(text).unwrap_err())).collect();
    expect![[r#"
        describe() did not answer with a valid document: EOF while parsing a value at line 1 column 0
        describe() did not answer with a valid document: invalid type: null, expected struct Describe at line 1 column 4
        describe() did not answer with a valid document: EOF while parsing an object at line 1 column 1
        describe() did not answer with a valid document: invalid length 0, expected struct Describe with 7 elements at line 1 column 2
        describe() did not answer with a valid document: missing field `version` at line 1 column 13
        describe() did not answer with a valid document: invalid type: integer `7`, expected a string at line 1 column 10
        describe() did not answer with a valid document: trailing characters at line 1 column 31
        describe() did not answer with a valid document: missing field `datasource` at line 1 column 69
        describe() did not answer with a valid document: unknown field `write`, expected one of `datasource`, `sql`, `writes`, `params` at line 1 column 96
        describe() did not answer with a valid document: duplicate field `name` at line 1 column 36
        describe() did not answer with a valid document: invalid type: sequence, expected a string at line 1 column 1
    "#]].assert_eq(&report);
}

#[test]
fn valid_statements_are_accepted() {
    let texts = [
        "SELECT 1",
        "select 1;",
        "  SELECT 1 ;; ",
        "SELECT ';'",
        "SELECT 'a;b' AS \"c;d\"",
        "SELECT 'it''s; fine'",
        "INSERT INTO t VALUES ($1, $2)",
        "UPDATE t SET a = $1",
        "DELETE FROM t WHERE a = $1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SELECT '$$;$$'",
        "SELECT ARRAY[1, 2]",
        "SELECT tags[1] FROM t",
        "SELECT \"a'b\", 'c\"d'",
        "SELECT 'C:\\temp'",
        "SELECT '价格;' || $1",
        "SELECT '''; DROP TABLE x; SELECT '",
        "SELECT $1::text FROM t",
        "SELECT [a b], `c` FROM t",
        "SELECT page_size, lo_revenue, sqlite FROM tidemill_orders WHERE by = 'tidemill'",
        "SELECT my_tidemill.id, \"orders_tidemill\".id FROM my_tidemill",
        "INSERT INTO t SELECT a FROM (SELECT 1 AS a) AS x",
        "INSERT OR REPLACE INTO t VALUES ((SELECT 1), 2)",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "WITH x AS (INSERT INTO t SELECT 1 RETURNING id) SELECT * FROM x",
    ];
    for sql in texts {
        assert_eq!(with_sql(sql).map(|_| ()), Ok(()), "{sql}");
    }
}

#[test]
fn invalid_statements_are_refused() {
    let texts = [
        "",
        " ; ",
        "SELECT 1; DROP TABLE x",
        "SELECT 1;;SELECT 2",
        "SELECT 1; ;",
        "SELECT 1 -- it",
        "SELECT /* it */ 1",
        "ATTACH 'x.db' AS x",
        "PRAGMA writable_schema = 1",
        "COMMIT",
        "BEGIN",
        "ROLLBACK",
        "VACUUM INTO 'x'",
        "SET role x",
        "COPY t TO PROGRAM 'sh'",
        "DO $$ BEGIN END $$",
        "CREATE TABLE t (a)",
        "EXPLAIN SELECT 1",
        "REPLACE INTO t VALUES (1)",
    ];
    expect![[r#"
        "": it is empty
        " ; ": it is empty
        "SELECT 1; DROP TABLE x": it holds more than one statement
        "SELECT 1;;SELECT 2": it holds more than one statement
        "SELECT 1; ;": it holds more than one statement
        "SELECT 1 -- it": comments are not allowed
        "SELECT /* it */ 1": comments are not allowed
        "ATTACH 'x.db' AS x": "attach" is not allowed: select, insert, update, delete and with are
        "PRAGMA writable_schema = 1": "pragma" is not allowed: select, insert, update, delete and with are
        "COMMIT": "commit" is not allowed: select, insert, update, delete and with are
        "BEGIN": "begin" is not allowed: select, insert, update, delete and with are
        "ROLLBACK": "rollback" is not allowed: select, insert, update, delete and with are
        "VACUUM INTO 'x'": "vacuum" is not allowed: select, insert, update, delete and with are
        "SET role x": "set" is not allowed: select, insert, update, delete and with are
        "COPY t TO PROGRAM 'sh'": "copy" is not allowed: select, insert, update, delete and with are
        "DO $$ BEGIN END $$": "do" is not allowed: select, insert, update, delete and with are
        "CREATE TABLE t (a)": "create" is not allowed: select, insert, update, delete and with are
        "EXPLAIN SELECT 1": "explain" is not allowed: select, insert, update, delete and with are
        "REPLACE INTO t VALUES (1)": "replace" is not allowed: select, insert, update, delete and with are
    "#]]
    .assert_eq(&verdicts(&texts));
}

#[test]
fn statements_beyond_the_business_tables_are_refused() {
    let texts = [
        "SELECT pg_sleep(9)",
        "SELECT \"PG_Sleep\"(9)",
        "SELECT \"'\", pg_catalog.pg_sleep(9), \"'\"",
        "SELECT U&\"\\0070g_sleep\"(9)",
        "SELECT set_config('role', 'x', true)",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        "SELECT load_extension('x')",
        "UPDATE tidemill.item SET state = 'resolved'",
        "DELETE FROM \"tidemill\" . \"item\"",
        "WITH x AS (SELECT 1) UPDATE\"tidemill\".item SET a = 1",
        "SELECT 1 AS id INTO goods",
        "SELECT 1 AS\"id\"INTO TEMP goods",
        "SELECT (1) insert INTO TEMP goods",
        "SELECT 1INTO TEMP goods",
        "SELECT $1INTO TEMP goods",
        "WITH x AS (SELECT 1) SELECT 1 AS insert INTO TEMP goods FROM x",
        "WITH x AS (SELECT 1 INTO goods) SELECT 1",
    ];
    expect![[r#"
        "SELECT pg_sleep(9)": "pg_sleep" is not for plugins: it reaches past the tables of a business
        "SELECT \"PG_Sleep\"(9)": "pg_sleep" is not for plugins: it reaches past the tables of a business
        "SELECT \"'\", pg_catalog.pg_sleep(9), \"'\"": "pg_catalog" is not for plugins: it reaches past the tables of a business
        "SELECT U&\"\\0070g_sleep\"(9)": names and texts in code points (U&) are not allowed
        "SELECT set_config('role', 'x', true)": "set_config" is not for plugins: it reaches past the tables of a business
        "SELECT query_to_xml('SELECT 1', true, true, '')": "query_to_xml" is not for plugins: it reaches past the tables of a business
        "SELECT load_extension('x')": "load_extension" is not for plugins: it reaches past the tables of a business
        "UPDATE tidemill.item SET state = 'resolved'": "tidemill" is the host's own schema
        "DELETE FROM \"tidemill\" . \"item\"": "tidemill" is the host's own schema
        "WITH x AS (SELECT 1) UPDATE\"tidemill\".item SET a = 1": "tidemill" is the host's own schema
        "SELECT 1 AS id INTO goods": a select that makes a table (into) is not allowed
        "SELECT 1 AS\"id\"INTO TEMP goods": a select that makes a table (into) is not allowed
        "SELECT (1) insert INTO TEMP goods": a select that makes a table (into) is not allowed
        "SELECT 1INTO TEMP goods": a select that makes a table (into) is not allowed
        "SELECT $1INTO TEMP goods": a select that makes a table (into) is not allowed
        "WITH x AS (SELECT 1) SELECT 1 AS insert INTO TEMP goods FROM x": a select that makes a table (into) is not allowed
        "WITH x AS (SELECT 1 INTO goods) SELECT 1": a select that makes a table (into) is not allowed
    "#]].assert_eq(&verdicts(&texts));
}

/// Each of these is two statements to SQLite or to Postgres, disguised as one.
#[test]
fn statements_that_hide_a_second_one_are_refused() {
    let texts = [
        "SELECT $$;$$",
        "SELECT $$'$$; DROP TABLE x; SELECT $$'$$",
        "SELECT $a$'$a$; DROP TABLE x; SELECT $a$'$a$",
        "SELECT E'\\''; DROP TABLE x; SELECT E'\\''",
        "SELECT e'\\\\\\''; DROP TABLE x; SELECT e'\\''",
        "SELECT ['] FROM t; DROP TABLE x; SELECT [']",
        "SELECT [\"] FROM t; DROP TABLE x; SELECT [\"]",
        "SELECT `'` FROM t; DROP TABLE x; SELECT `'`",
        "SELECT '''' ; DROP TABLE x",
        "SELECT '\"'; DROP TABLE x; SELECT '\"'",
        "SELECT \"'\"; DROP TABLE x; SELECT \"'\"",
        "SELECT \"\"\"\"; DROP TABLE x",
        "SELECT 1\u{0}; DROP TABLE x",
    ];
    expect![[r#"
        "SELECT $$;$$": it holds more than one statement
        "SELECT $$'$$; DROP TABLE x; SELECT $$'$$": `$` is for parameters only, as in $1: pass the text as one
        "SELECT $a$'$a$; DROP TABLE x; SELECT $a$'$a$": `$` is for parameters only, as in $1: pass the text as one
        "SELECT E'\\''; DROP TABLE x; SELECT E'\\''": a backslash before a quote is not allowed: pass the text as a parameter
        "SELECT e'\\\\\\''; DROP TABLE x; SELECT e'\\''": a backslash before a quote is not allowed: pass the text as a parameter
        "SELECT ['] FROM t; DROP TABLE x; SELECT [']": it holds more than one statement
        "SELECT [\"] FROM t; DROP TABLE x; SELECT [\"]": it holds more than one statement
        "SELECT `'` FROM t; DROP TABLE x; SELECT `'`": it holds more than one statement
        "SELECT '''' ; DROP TABLE x": it holds more than one statement
        "SELECT '\"'; DROP TABLE x; SELECT '\"'": it holds more than one statement
        "SELECT \"'\"; DROP TABLE x; SELECT \"'\"": it holds more than one statement
        "SELECT \"\"\"\"; DROP TABLE x": it holds more than one statement
        "SELECT 1\0; DROP TABLE x": it holds more than one statement
    "#]].assert_eq(&verdicts(&texts));
}

pub(super) fn job(grants: Grants) -> JobSpec {
    JobSpec {
        name: "wallet".parse().unwrap(),
        plugin: "wallet".parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants,
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        flow: Flow { concurrency: 1, ..Flow::default() },
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

fn wish(statements: serde_json::Value, topics: &[&str], capabilities: &[&str]) -> Describe {
    let text = json!({
        "name": "w", "version": "1", "statements": statements, "topics": topics, "capabilities": capabilities,
    });
    Describe::parse(&text.to_string()).unwrap()
}

#[test]
fn missing_grant_is_named() {
    let reads = json!({"find": {"datasource": "wallets", "sql": "SELECT 1"}});
    let writes = json!({"set": {"datasource": "wallets", "sql": "DELETE FROM x", "writes": true}});
    let none = json!({});
    let wallets = |access| Grants {
        datasources: BTreeMap::from([("wallets".to_owned(), access)]),
        ..Grants::default()
    };
    let topic = Grants { topics: BTreeSet::from(["a".to_owned()]), ..Grants::default() };
    let keyvalue = Grants { capabilities: [Capability::KeyValue].into(), ..Grants::default() };
    let cases = [
        ("nothing, with nothing", wish(none.clone(), &[], &[]), Grants::default()),
        ("reads, with nothing", wish(reads.clone(), &[], &[]), Grants::default()),
        ("reads, with reading", wish(reads, &[], &[]), wallets(Access::Read)),
        ("writes, with reading", wish(writes.clone(), &[], &[]), wallets(Access::Read)),
        ("writes, with writing", wish(writes, &[], &[]), wallets(Access::ReadWrite)),
        ("topics a and b, with a", wish(none.clone(), &["a", "b"], &[]), topic),
        ("keyvalue, with nothing", wish(none.clone(), &[], &["keyvalue"]), Grants::default()),
        ("keyvalue, with keyvalue", wish(none.clone(), &[], &["keyvalue"]), keyvalue.clone()),
        ("what we do not know, with keyvalue", wish(none, &[], &["keyvalue", "sockets"]), keyvalue),
    ];
    let line = |(what, describe, grants): (&str, Describe, Grants)| {
        let verdict = describe.asks_too_much(&job(grants)).unwrap_or("fine".to_owned());
        format!("{what}: {verdict}\n")
    };
    expect![[r#"
        nothing, with nothing: fine
        reads, with nothing: statement "find": datasource "wallets" is not granted
        reads, with reading: fine
        writes, with reading: statement "set": datasource "wallets" is granted for reading only
        writes, with writing: fine
        topics a and b, with a: topic "b" is not granted
        keyvalue, with nothing: capability "keyvalue" is not granted
        keyvalue, with keyvalue: fine
        what we do not know, with keyvalue: capability "sockets" is not granted
    "#]]
    .assert_eq(&cases.map(line).concat());
}
