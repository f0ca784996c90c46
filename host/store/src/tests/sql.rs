//! A job's statements on its business database: one transaction per attempt, within its grants and limits.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::clock::Clock;
use domain::item::Claimed;
use domain::job::{Access, Grants, JobSpec};
use domain::lease::{Hold, Trust};
use domain::plugin::{ParamType, Statement};
use domain::scope::Value::{Blob, Integer, Null, Real, Text};
use domain::scope::{Rows, Scope, ScopeError, Value};
use expect_test::expect;
use jiff::SignedDuration;
use sqlx::{Connection, PgConnection};
use test_support::{Kind, execute, on_both};

use super::support::{SHOP, T, at, config, end, host, incarnation, job, lease, resolved};
use crate::attempts::commit::Committed;
use crate::attempts::scope::AttemptScope;
use crate::items::Lease;
use crate::{Store, StoreError};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

on_both! {
    values_make_the_round_trip,
    null_may_come_first,
    parameter_may_change_its_type,
    statements_of_an_attempt_are_one_transaction,
    reading_before_writing_delays_no_other,
    aborted_attempt_rolls_back,
    dropped_attempt_rolls_back,
    stale_attempt_commits_nothing,
    a_commit_needs_a_lease_that_lasts,
    the_stores_own_database_commits_with_the_outcome,
    late_commit_is_rolled_back,
    the_next_attempt_sees_a_late_commit_of_the_former,
    dropped_begin_leaves_no_open_transaction,
    refused_statement_undoes_the_attempts_transaction,
    grants_are_kept,
    reading_grant_cannot_write,
    discovery_cannot_write,
    statements_are_counted,
    answers_are_bounded,
    endless_answer_is_cut_off,
    endless_statement_is_cut_off,
    unavailable_datasource_is_reported,
    statements_are_checked_at_load,
    parameters_are_checked_at_load,
}

const GOODS: &str = "CREATE TABLE goods
    (id INTEGER PRIMARY KEY, stock BIGINT, price DOUBLE PRECISION, name TEXT, picture BYTEA)";
const ALL: &str = "SELECT id, stock, price, name, picture FROM goods ORDER BY id";
const ADD: &str = "INSERT INTO goods (id, stock, price, name, picture) VALUES ($1, $2, $3, $4, $5)";
const ENDLESS: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT 1 FROM c)";

pub fn read(sql: &str) -> Statement {
    Statement { datasource: SHOP.to_owned(), sql: sql.to_owned(), writes: false, params: None }
}

pub fn write(sql: &str) -> Statement {
    Statement { writes: true, ..read(sql) }
}

pub fn granted(access: Access) -> JobSpec {
    let grants = Grants { datasources: [(SHOP.to_owned(), access)].into(), ..Grants::default() };
    JobSpec { grants, ..job() }
}

pub async fn attempt(t: &T, job: JobSpec) -> (Claimed, AttemptScope) {
    let key = format!("item {}", t.number("SELECT COUNT(*) AS n FROM item").await);
    t.discover(&job, &[&key], 0).await;
    let item = t.store.items().claim(&job, lease(1, 0), 1).await.unwrap().remove(0);
    (item.clone(), t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()))
}

/// A host may be stopped between the last check of the lease and the commit. So the lease has to last longer
/// than the database waits for the commit.
async fn a_commit_needs_a_lease_that_lasts(t: T) {
    execute(&t.shop_url, GOODS).await;
    let clock = Clock::manual(at(0));
    let Clock::Manual(hands) = &clock else { panic!("a manual clock") };
    let trust = Arc::new(Trust::new(clock.clone(), SignedDuration::from_secs(14)));
    for (number, (late, commits)) in [(8, true), (10, false)].into_iter().enumerate() {
        let begin = clock.now();
        let job = granted(Access::ReadWrite);
        let key = format!("item {number}");
        t.discover(&job, &[&key], 0).await;
        let lease = Lease {
            host: host(1),
            incarnation: incarnation(1),
            now: begin,
            until: begin + SignedDuration::from_secs(15),
        };
        let item = t.store.items().claim(&job, lease, 1).await.unwrap().remove(0);
        let hold = Hold::new(trust.clone(), item.claimed_at);
        let scope = t.store.scope_of_attempt(Arc::new(job), item, hold);
        scope.sql_execute(&write(ADD), id(i64::from(late))).await.unwrap();
        hands.advance(SignedDuration::from_secs(i64::from(late)));
        match scope.end().await {
            Ok(effects) => assert!(effects.is_some() && commits, "{late} s after the claim"),
            Err(StoreError::Unavailable(why)) => assert!(!commits && why.contains("lease"), "{why}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(stored(&t).await, [Integer(8)]);
}

/// Simulates a host that is stopped just before its commit. An SQLite file has one host, and its transactions
/// end with it.
async fn late_commit_is_rolled_back(t: T) {
    if t.kind == Kind::Sqlite {
        return;
    }
    execute(&t.shop_url, GOODS).await;
    let db = t.store.datasources.get(SHOP).unwrap();
    let mut tx = db.begin_declared(true, Duration::from_secs(1)).await.unwrap();
    tx.execute_declared(ADD, &id(1)).await.unwrap();
    tx.commit_within(Duration::from_millis(50)).await.unwrap();
    let open = "SELECT COUNT(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'tidemill job'";
    let ended = async { while t.number(open).await > 0 {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the transaction is ended");
    assert!(tx.commit().await.is_err());
    assert_eq!(stored(&t).await, []);
}

/// A killed host leaves a transaction open whose COMMIT is on the way.
async fn the_next_attempt_sees_a_late_commit_of_the_former(t: T) {
    if t.kind == Kind::Sqlite {
        return;
    }
    execute(&t.shop_url, GOODS).await;
    let db = t.store.datasources.get(SHOP).unwrap().clone();
    let begin = |name: &'static str| {
        let db = db.clone();
        async move { db.begin_declared_after(name, PATIENCE).await.unwrap() }
    };
    let mut former = begin("item 1").await;
    former.execute_declared(ADD, &id(1)).await.unwrap();
    begin("item 2").await.commit().await.unwrap();
    let next = tokio::spawn(begin("item 1"));
    let waits = "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let waiting = async { while t.number(waits).await == 0 {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the next attempt waits");
    former.commit().await.unwrap();
    let mut next = next.await.unwrap();
    let seen = next.fetch_declared("SELECT id FROM goods", &[], crate::db::Most::ALL).await.unwrap();
    assert_eq!(seen.len(), 1);
}

/// On Postgres, the shop's tables are in the store's database: both are committed together or not at all.
async fn the_stores_own_database_commits_with_the_outcome(t: T) {
    execute(&t.shop_url, GOODS).await;
    for (stale, number) in [(false, 1), (true, 2)] {
        let (item, scope) = attempt(&t, granted(Access::ReadWrite)).await;
        scope.sql_execute(&write(ADD), id(number)).await.unwrap();
        let ended = scope.end_but_own().await.unwrap().unwrap();
        let Some(own) = ended.own else {
            assert_eq!(t.kind, Kind::Sqlite, "an SQLite file of business is another one than the store's");
            continue;
        };
        assert_eq!(stored(&t).await, [Integer(1)][..usize::from(stale)], "not yet");
        if stale {
            t.store.items().recover(Some(host(1)), |_| 9, at(1)).await.unwrap();
        }
        let end = Arc::new(end(&item, &resolved(), 1));
        let expected = if stale { Committed::Stale } else { Committed::Applied };
        assert_eq!(t.store.attempts().end_with(own, &end).await.unwrap(), expected);
        assert_eq!(stored(&t).await, [Integer(1)]);
    }
}

async fn writer(t: &T) -> AttemptScope {
    execute(&t.shop_url, GOODS).await;
    attempt(t, granted(Access::ReadWrite)).await.1
}

/// The stored ids, as another attempt sees them.
async fn stored(t: &T) -> Vec<Value> {
    let (_, scope) = attempt(t, granted(Access::Read)).await;
    let rows = scope.sql_query(&read("SELECT id FROM goods ORDER BY id"), vec![]).await.unwrap();
    rows.rows.into_iter().flatten().collect()
}

fn id(id: i64) -> Vec<Value> {
    vec![Integer(id), Null, Null, Null, Null]
}

async fn values_make_the_round_trip(t: T) {
    let scope = writer(&t).await;
    let full =
        vec![Integer(1), Integer(i64::MIN), Real(-0.5), Text("Grüße '; --".to_owned()), Blob(vec![0, 255])];
    let empty = vec![Integer(2), Integer(0), Real(0.0), Text(String::new()), Blob(Vec::new())];
    for row in [&full, &empty, &id(3)] {
        assert_eq!(scope.sql_execute(&write(ADD), row.clone()).await.unwrap(), 1);
    }
    let columns = ["id", "stock", "price", "name", "picture"].map(str::to_owned).to_vec();
    let rows = scope.sql_query(&read(ALL), vec![]).await.unwrap();
    assert_eq!(rows, Rows { columns, rows: vec![full, empty, id(3)] });
    for (column, value) in [("id", Integer(1)), ("price", Real(-0.5)), ("name", Text(String::new()))] {
        let sql = format!("SELECT id FROM goods WHERE {column} = $1");
        let rows = scope.sql_query(&read(&sql), vec![value]).await.unwrap();
        assert_eq!(rows.rows.len(), 1, "{sql}");
    }
    let none = scope.sql_query(&read("SELECT id FROM goods WHERE id = $1"), vec![Integer(9)]).await.unwrap();
    assert!(none.rows.is_empty());
}

async fn null_may_come_first(t: T) {
    let scope = writer(&t).await;
    let update = write("UPDATE goods SET stock = $1, name = $2, picture = $3 WHERE id = $4");
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    let values = [
        vec![Null, Null, Null],
        vec![Integer(7), Text("x".to_owned()), Blob(vec![1])],
        vec![Null, Text("y".to_owned()), Null],
        vec![Integer(8), Null, Blob(vec![2])],
    ];
    for new in values {
        let params = new.iter().cloned().chain([Integer(1)]).collect();
        assert_eq!(scope.sql_execute(&update, params).await.unwrap(), 1);
        let rows = scope.sql_query(&read("SELECT stock, name, picture FROM goods"), vec![]).await.unwrap();
        assert_eq!(rows.rows, [new]);
    }
    let filter = read("SELECT id FROM goods WHERE (CAST($1 AS TEXT) IS NULL OR name = $1)");
    for (name, found) in [(Null, 1), (Text("no".to_owned()), 0), (Null, 1)] {
        assert_eq!(scope.sql_query(&filter, vec![name]).await.unwrap().rows.len(), found);
    }
}

/// If the driver kept the first type, Postgres would read the bits of a real as an integer.
async fn parameter_may_change_its_type(t: T) {
    let scope = writer(&t).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    let update = write("UPDATE goods SET price = $1 WHERE id = 1");
    for (param, price) in [(Integer(3), 3.0), (Real(2.5), 2.5), (Integer(4), 4.0), (Real(1.0), 1.0)] {
        scope.sql_execute(&update, vec![param]).await.unwrap();
        let rows = scope.sql_query(&read("SELECT price FROM goods"), vec![]).await.unwrap();
        assert_eq!(rows.rows, [[Real(price)]]);
    }
}

async fn statements_of_an_attempt_are_one_transaction(t: T) {
    let scope = writer(&t).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    scope.sql_execute(&write(ADD), id(2)).await.unwrap();
    assert_eq!(scope.sql_query(&read(ALL), vec![]).await.unwrap().rows.len(), 2, "it sees its own");
    assert!(stored(&t).await.is_empty(), "others do not");
    assert!(scope.end().await.unwrap().is_some());
    assert_eq!(stored(&t).await, [Integer(1), Integer(2)]);
    let late = scope.sql_execute(&write(ADD), id(3)).await.unwrap_err();
    assert_eq!(late, ScopeError::Denied("the attempt has ended".to_owned()));
}

/// An attempt may read and then wait for a service; meanwhile, others can write.
async fn reading_before_writing_delays_no_other(t: T) {
    let slow = writer(&t).await;
    slow.sql_query(&read(ALL), vec![]).await.unwrap();
    let (_, other) = attempt(&t, granted(Access::ReadWrite)).await;
    other.sql_query(&read(ALL), vec![]).await.unwrap();
    other.sql_execute(&write(ADD), id(1)).await.unwrap();
    assert!(other.end().await.unwrap().is_some());
    assert_eq!(slow.sql_query(&read(ALL), vec![]).await.unwrap().rows.len(), 1, "what is committed now");
    slow.sql_execute(&write(ADD), id(2)).await.unwrap();
    slow.end().await.unwrap();
    assert_eq!(stored(&t).await, [Integer(1), Integer(2)]);
}

async fn aborted_attempt_rolls_back(t: T) {
    let scope = writer(&t).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    scope.abort().await;
    assert!(stored(&t).await.is_empty());
    let (_, next) = attempt(&t, granted(Access::ReadWrite)).await;
    next.sql_execute(&write(ADD), id(1)).await.unwrap();
}

async fn dropped_attempt_rolls_back(t: T) {
    let scope = writer(&t).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    drop(scope);
    let (_, next) = attempt(&t, granted(Access::ReadWrite)).await;
    next.sql_execute(&write(ADD), id(2)).await.unwrap();
    next.end().await.unwrap();
    assert_eq!(stored(&t).await, [Integer(2)]);
}

async fn stale_attempt_commits_nothing(t: T) {
    execute(&t.shop_url, GOODS).await;
    let (_, scope) = attempt(&t, granted(Access::ReadWrite)).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    t.store.items().recover(None, |_| 5, at(20)).await.unwrap();
    assert!(scope.end().await.unwrap().is_none());
    assert!(stored(&t).await.is_empty());
}

async fn dropped_begin_leaves_no_open_transaction(t: T) {
    if t.kind == Kind::Sqlite {
        return; // SQLite runs in the process, so no answer can be pending.
    }
    // Not from the pool: that would reuse the session left open and so close its transaction.
    let mut other = PgConnection::connect(&t.url).await.unwrap();
    let open = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle in transaction'";
    // Dropped after this many polls; in between, BEGIN has been sent and not yet answered.
    for looks in (0..8).cycle().take(24) {
        let (mut begin, mut left) = (Box::pin(t.store.db.begin()), looks);
        let look = |cx: &mut Context| {
            left -= 1;
            if left < 0 { Poll::Ready(()) } else { begin.as_mut().poll(cx).map(|_| ()) }
        };
        poll_fn(look).await;
        drop(begin);
        // tidy: sleep because the pool takes its connection back behind our back
        tokio::time::sleep(Duration::from_millis(50)).await;
        let ended =
            async { while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut other).await.unwrap() > 0 {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("no session stays in a transaction");
    }
}

/// On both databases, the writes before a refused statement are undone, and later calls return an error.
async fn refused_statement_undoes_the_attempts_transaction(t: T) {
    let scope = writer(&t).await;
    scope.sql_execute(&write(ADD), id(1)).await.unwrap();
    let twice = scope.sql_execute(&write(ADD), id(1)).await.unwrap_err();
    assert!(
        matches!(&twice, ScopeError::Database(text) if text.to_lowercase().contains("unique")),
        "{twice}"
    );
    let after = scope.sql_execute(&write(ADD), id(2)).await.unwrap_err();
    expect![[
        r#"database: a statement of this attempt on datasource "shop" failed: its transaction is undone"#
    ]]
    .assert_eq(&after.to_string());
    let error = scope.end().await.unwrap_err();
    expect![[r#"datasource "shop": a statement failed after others had written, so all are undone"#]]
        .assert_eq(&error.to_string());
    assert!(stored(&t).await.is_empty());

    // Without earlier writes, nothing is lost: the guest may handle the error.
    let (_, scope) = attempt(&t, granted(Access::ReadWrite)).await;
    scope.sql_execute(&write("INSERT INTO nowhere VALUES (1)"), vec![]).await.unwrap_err();
    assert!(scope.end().await.unwrap().is_some());
}

async fn grants_are_kept(t: T) {
    execute(&t.shop_url, GOODS).await;
    let mut reported = String::new();
    let mut tell = |error: ScopeError| reported.push_str(&format!("{error}\n"));
    let (_, scope) = attempt(&t, job()).await;
    tell(scope.sql_query(&read(ALL), vec![]).await.unwrap_err());
    tell(scope.sql_execute(&write(ADD), id(1)).await.unwrap_err());
    let (_, scope) = attempt(&t, granted(Access::Read)).await;
    tell(scope.sql_execute(&write(ADD), id(1)).await.unwrap_err());
    let mut job = job();
    job.grants.datasources = [("moon".to_owned(), Access::Read)].into();
    let (_, scope) = attempt(&t, job).await;
    let moon = Statement { datasource: "moon".to_owned(), ..read(ALL) };
    tell(scope.sql_query(&moon, vec![]).await.unwrap_err());
    expect![[r#"
        denied: datasource "shop" is not granted
        denied: datasource "shop" is not granted
        denied: datasource "shop" is granted for reading only
        denied: there is no datasource "moon" in the configuration
    "#]]
    .assert_eq(&reported);
}

/// The host does not trust a statement's claim that it only reads.
async fn reading_grant_cannot_write(t: T) {
    execute(&t.shop_url, GOODS).await;
    for sql in ["INSERT INTO goods (id) VALUES (1)", "DELETE FROM goods"] {
        let (_, scope) = attempt(&t, granted(Access::Read)).await;
        let error = scope.sql_query(&read(sql), vec![]).await.unwrap_err();
        assert!(matches!(&error, ScopeError::Database(_)), "{error}");
        assert!(error.to_string().contains("read"), "{error}");
        scope.end().await.unwrap();
    }
    assert!(stored(&t).await.is_empty());
}

async fn discovery_cannot_write(t: T) {
    execute(&t.shop_url, GOODS).await;
    let scope = t.store.scope_of_discovery(Arc::new(granted(Access::ReadWrite)), at(0), Hold::without_end());
    assert!(scope.sql_query(&read(ALL), vec![]).await.unwrap().rows.is_empty());
    let error = scope.sql_execute(&write(ADD), id(1)).await.unwrap_err();
    assert!(matches!(error, ScopeError::Database(_)), "{error}");
    scope.end().await.unwrap();
    assert!(stored(&t).await.is_empty());
}

async fn statements_are_counted(t: T) {
    execute(&t.shop_url, GOODS).await;
    let mut job = granted(Access::Read);
    job.limits.sql_statements = 2;
    let (_, scope) = attempt(&t, job).await;
    for _ in 0..2 {
        scope.sql_query(&read(ALL), vec![]).await.unwrap();
    }
    let error = scope.sql_query(&read(ALL), vec![]).await.unwrap_err();
    expect!["limit: more than 2 statements in an attempt"].assert_eq(&error.to_string());
}

async fn answers_are_bounded(t: T) {
    let scope = writer(&t).await;
    for n in 0..5 {
        let params = vec![Integer(n), Null, Null, Text("x".repeat(100)), Null];
        scope.sql_execute(&write(ADD), params).await.unwrap();
    }
    scope.end().await.unwrap();
    let mut job = granted(Access::Read);
    job.limits.sql_rows = 4;
    job.limits.sql_bytes = 450;
    let (_, scope) = attempt(&t, job).await;
    let mut reported = String::new();
    let mut tell = |error: ScopeError| reported.push_str(&format!("{error}\n"));
    tell(scope.sql_query(&read("SELECT id FROM goods"), vec![]).await.unwrap_err());
    let long = vec![Text("x".repeat(451))];
    tell(scope.sql_query(&read("SELECT id FROM goods WHERE name = $1"), long).await.unwrap_err());
    scope.sql_query(&read("SELECT name FROM goods WHERE id < 4"), vec![]).await.unwrap();
    tell(scope.sql_query(&read("SELECT name FROM goods WHERE id = 4"), vec![]).await.unwrap_err());
    expect![[r#"
        limit: the statement answered with more than 4 rows
        limit: parameters of more than 450 bytes
        limit: an attempt read more than 450 bytes
    "#]]
    .assert_eq(&reported);
}

/// The host must not read an entire result into memory to find that it is too long.
async fn endless_answer_is_cut_off(t: T) {
    let mut job = granted(Access::Read);
    job.limits.sql_time = Duration::from_secs(2);
    job.limits.sql_rows = 10;
    let (_, scope) = attempt(&t, job.clone()).await;
    let error = scope.sql_query(&read(&format!("{ENDLESS} SELECT x FROM c")), vec![]).await.unwrap_err();
    expect!["limit: the statement answered with more than 10 rows"].assert_eq(&error.to_string());
    scope.abort().await;

    job.limits.sql_rows = usize::MAX;
    job.limits.sql_bytes = 1_000;
    let (_, scope) = attempt(&t, job).await;
    let error = scope.sql_query(&read(&format!("{ENDLESS} SELECT x FROM c")), vec![]).await.unwrap_err();
    expect!["limit: an attempt read more than 1000 bytes"].assert_eq(&error.to_string());
}

async fn endless_statement_is_cut_off(t: T) {
    let mut job = granted(Access::ReadWrite);
    job.limits.sql_time = Duration::from_millis(200);
    // More often than there are connections: none may stay busy.
    for _ in 0..10 {
        let (_, scope) = attempt(&t, job.clone()).await;
        let endless = read(&format!("{ENDLESS} SELECT COUNT(*) FROM c"));
        let error = scope.sql_query(&endless, vec![]).await.unwrap_err();
        expect!["limit: the statement took longer than 200ms"].assert_eq(&error.to_string());
        scope.abort().await;
    }
    let (_, next) = attempt(&t, job).await;
    next.sql_query(&read("SELECT 1"), vec![]).await.unwrap();
}

async fn unavailable_datasource_is_reported(t: T) {
    let away = match t.kind {
        Kind::Sqlite => "sqlite:///nowhere/shop.db",
        Kind::Postgres => "postgres://shop:hunter2@127.0.0.1:1/shop",
    };
    let store = Arc::new(Store::open(&config(&t.url, away)).await.unwrap());
    let t = T { store: store.clone(), ..t };
    let (_, scope) = attempt(&t, granted(Access::ReadWrite)).await;
    let error = scope.sql_query(&read("SELECT 1"), vec![]).await.unwrap_err();
    assert!(matches!(error, ScopeError::Unavailable(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("unavailable: datasource \"shop\": "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(store.attempts().check_statement(&read("SELECT 1")).await, Ok(()), "its items will tell");
    assert!(scope.end().await.unwrap().is_some(), "the attempt itself can end");
    store.close().await;
}

async fn parameters_are_checked_at_load(t: T) {
    execute(&t.shop_url, GOODS).await;
    let declared = |sql: &str, types: &[ParamType]| Statement { params: Some(types.to_vec()), ..read(sql) };
    let good = [
        read("SELECT id FROM goods WHERE id = $1 AND name = $2 LIMIT $3"),
        read("SELECT id FROM goods WHERE id = $2 OR stock = $2 OR price > $1"),
        declared("SELECT id FROM goods WHERE id = $1 AND name = $2", &[ParamType::Integer, ParamType::Text]),
        declared("SELECT id FROM goods WHERE picture = $1", &[ParamType::Blob]),
        read(ADD),
    ];
    for statement in good {
        assert_eq!(t.store.attempts().check_statement(&statement).await, Ok(()), "{}", statement.sql);
    }
    // Syntax that one of the databases treats as a parameter, or as none.
    let bad: &[&str] = match t.kind {
        Kind::Sqlite => &[
            "SELECT id FROM goods WHERE id = ?",
            "SELECT id FROM goods WHERE id = ?1 AND name = $1",
            "SELECT id FROM goods WHERE id = :id",
            "SELECT id FROM goods WHERE id = @id",
            "SELECT `$2`, $1 FROM (SELECT 1 AS `$2`)",
        ],
        Kind::Postgres => &["SELECT id FROM goods WHERE id = ?", "SELECT id FROM goods WHERE id = :id"],
    };
    for sql in bad {
        assert!(t.store.attempts().check_statement(&read(sql)).await.is_err(), "{sql}");
    }
    if t.kind == Kind::Sqlite {
        return; // Its parameters have no types; the declared types are checked at each call.
    }
    let wrong =
        declared("SELECT id FROM goods WHERE id = $1 AND name = $2", &[ParamType::Text, ParamType::Text]);
    // Also on connections that have checked the same text with other types.
    for _ in 0..20 {
        assert!(t.store.attempts().check_statement(&wrong).await.unwrap_err().contains("integer = text"));
    }
    execute(&t.shop_url, "CREATE TABLE dated (at TIMESTAMPTZ, tags TEXT[], note JSONB)").await;
    for never in ["at > $1", "tags = $1", "note = $1", "substr('a', $1) = 'b'", "'a' = ANY ($1)"] {
        let sql = format!("SELECT 1 FROM dated WHERE {never}");
        assert!(t.store.attempts().check_statement(&read(&sql)).await.is_err(), "{sql}");
    }
    for cast in [
        "at > CAST($1 AS TIMESTAMPTZ)",
        "substr('a', CAST($1 AS INTEGER)) = 'b'",
        "'a' = ANY (CAST($1 AS TEXT[]))",
    ] {
        let sql = format!("SELECT 1 FROM dated WHERE {cast}");
        assert_eq!(t.store.attempts().check_statement(&read(&sql)).await, Ok(()), "{sql}");
    }
}

async fn statements_are_checked_at_load(t: T) {
    execute(&t.shop_url, GOODS).await;
    for good in [ALL, ADD] {
        assert_eq!(t.store.attempts().check_statement(&read(good)).await, Ok(()));
    }
    let error = t.store.attempts().check_statement(&read("SELECT nothing FROM goods")).await.unwrap_err();
    assert!(error.contains("nothing"), "{error}");
    let error = t.store.attempts().check_statement(&read("SELEC 1")).await.unwrap_err();
    assert!(error.contains("SELEC"), "{error}");
    let moon = Statement { datasource: "moon".to_owned(), ..read(ALL) };
    expect![[r#"denied: there is no datasource "moon" in the configuration"#]]
        .assert_eq(&t.store.attempts().check_statement(&moon).await.unwrap_err());
    assert!(stored(&t).await.is_empty(), "a check runs nothing");
}
