//! Replayed attempts: they read current data and leave no trace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::alert::{Alert, Severity};
use domain::effect::{AuditRecord, Change, Effect, Metric, NewItem};
use domain::item::Claimed;
use domain::job::{Access, Capability, Grants, JobSpec};
use domain::plugin::Statement;
use domain::scope::Value::{Integer, Text};
use domain::scope::{Scope, ScopeError, Swap};
use expect_test::expect;
use test_support::{Kind, execute, on_both};

use super::support::{SHOP, T, at, awaiting, end, event, failed, job, lease, resolved};
use crate::attempts::scope::{HELD_MAX, ReplayScope};

on_both! {
    replay_leaves_no_data,
    replay_reads_the_present_data,
    locks_of_others_do_not_block_a_replay,
    replay_does_not_wait_for_locks_of_others,
    replay_releases_its_locks_soon,
    a_statement_that_failed_fails_the_attempt,
    conflict_at_commit_is_reported,
    recorded_effects_are_bounded,
    recorded_attempts_have_their_inputs,
}

fn granted() -> JobSpec {
    let grants = Grants {
        datasources: [(SHOP.to_owned(), Access::ReadWrite)].into(),
        topics: ["wallets".to_owned()].into(),
        items: ["wallet".parse().unwrap()].into(),
        locks: ["ledger".parse().unwrap()].into(),
        capabilities: Capability::ALL.into(),
        ..Grants::default()
    };
    JobSpec { grants, ..job() }
}

fn statement(sql: &str, writes: bool) -> Statement {
    Statement { datasource: SHOP.to_owned(), sql: sql.to_owned(), writes, params: None }
}

fn add() -> Statement {
    statement("INSERT INTO goods (id) VALUES ($1)", true)
}

/// A job with one ended attempt, and that attempt.
async fn ended(t: &T) -> (Arc<JobSpec>, Claimed) {
    execute(&t.shop_url, "CREATE TABLE goods (id INTEGER PRIMARY KEY)").await;
    t.attempt("a", resolved(), 0).await;
    let job = Arc::new(granted());
    let mut recorded = t.store.attempts().to_replay(&job.name, 10).await.unwrap();
    assert_eq!(recorded.len(), 1);
    (job, recorded.remove(0).item)
}

async fn scope(t: &T) -> ReplayScope {
    let (job, item) = ended(t).await;
    t.store.scope_of_replay(job, item, at(5))
}

async fn goods(t: &T) -> i64 {
    let mut tx = t.store.datasources.get(SHOP).unwrap().begin_read().await.unwrap();
    let rows = tx.fetch_declared("SELECT COUNT(*) AS n FROM goods", &[], crate::db::Most::ALL).await.unwrap();
    rows[0].int("n").unwrap()
}

async fn replay_leaves_no_data(t: T) {
    let scope = scope(&t).await;
    let (before, alerts) = (t.everything().await, t.number("SELECT COUNT(*) AS n FROM alert").await);
    assert_eq!(scope.sql_execute(&add(), vec![Integer(1)]).await, Ok(1));
    let seen = scope.sql_query(&statement("SELECT id FROM goods", false), vec![]).await.unwrap();
    assert_eq!(seen.rows, [[Integer(1)]], "it sees its own");
    scope.kv_set("b", "k", Some(b"v".to_vec())).await.unwrap();
    let swap = Swap { expected: Some(b"v".to_vec()), value: None, ttl: None };
    assert_eq!(scope.kv_compare_and_set("b", "k", swap).await, Ok(true));
    assert_eq!(scope.lock("ledger").await, Ok(Some(1)));
    assert_eq!(scope.lock("ledger").await, Ok(Some(1)), "asked again");
    scope.add(event("wallets", "key", "{}")).await.unwrap();
    let (kind, key, message) = ("K".to_owned(), "key".to_owned(), "message".to_owned());
    let alert = Alert { kind, key: key.clone(), severity: Severity::Error, message, metadata: String::new() };
    scope.add(Effect::Alert(alert)).await.unwrap();
    let record = AuditRecord { action: "did".to_owned(), subject: key.clone(), detail: String::new() };
    scope.add(Effect::Audit(record)).await.unwrap();
    let item = NewItem { job: "wallet".parse().unwrap(), key, payload: "{}".to_owned() };
    scope.add(Effect::Item(item)).await.unwrap();
    let metric = Metric { name: "n".to_owned(), labels: Vec::new(), change: Change::Add(1) };
    scope.add(Effect::Metric(metric)).await.unwrap();
    let sent = scope.may_send("POST", "http://127.0.0.1:1/path");
    assert!(matches!(sent, Err(ScopeError::Denied(_))));

    let (asked, whole) = scope.finish().await;
    whole.unwrap();
    assert!(matches!(
        asked.effects.requested[..],
        [Effect::Event(_), Effect::Alert(_), Effect::Audit(_), Effect::Item(_), Effect::Metric(_)]
    ));
    let reported = format!(
        "sql {} {:?} {}; kv {:?}; locks {:?}; http {:?}",
        asked.sql.len(),
        asked.sql[0].params,
        asked.sql[0].rows,
        asked.effects.kv.iter().map(|write| (&write.key, &write.value)).collect::<Vec<_>>(),
        asked.locks,
        asked.requests,
    );
    expect![[r#"sql 1 [Integer(1)] 1; kv [("k", None)]; locks ["ledger"]; http [Request { method: "POST", place: "http://127.0.0.1:1/path" }]"#]].assert_eq(&reported);
    assert_eq!(t.everything().await, before);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM alert").await, alerts);
    assert_eq!(goods(&t).await, 0);
    let late = scope.kv_get("b", "k").await.unwrap_err();
    assert_eq!(late, ScopeError::Denied("the attempt has ended".to_owned()));
}

async fn replay_reads_the_present_data(t: T) {
    let (job, item) = ended(&t).await;
    // Written by another attempt after the replayed one; one key has expired by now.
    t.discover(&job, &["b"], 1).await;
    let other = t.store.items().claim(&job, lease(1, 1), 1).await.unwrap().remove(0);
    let writer = t.store.scope_of_attempt(job.clone(), other.clone(), domain::lease::Hold::without_end());
    writer.kv_set("b", "stays", Some(b"v".to_vec())).await.unwrap();
    let briefly = jiff::SignedDuration::from_secs(1);
    writer.kv_set_for("b", "goes", b"v".to_vec(), briefly).await.unwrap();
    writer.sql_execute(&add(), vec![Integer(7)]).await.unwrap();
    let effects = writer.end().await.unwrap().unwrap();
    let end = crate::attempts::commit::AttemptEnd { effects, ..end(&other, &resolved(), 1) };
    t.store.attempts().end(Arc::new(end)).await.unwrap();

    let scope = t.store.scope_of_replay(job, item, at(5));
    assert_eq!(scope.kv_get("b", "stays").await, Ok(Some(b"v".to_vec())));
    assert_eq!(scope.kv_get("b", "goes").await, Ok(None));
    assert_eq!(scope.kv_keys("b", 0).await.unwrap().keys, ["stays"]);
    let rows = scope.sql_query(&statement("SELECT id FROM goods", false), vec![]).await.unwrap();
    assert_eq!(rows.rows, [[Integer(7)]]);
    assert_eq!(scope.finish().await.0.sql, [], "it only read");
}

async fn locks_of_others_do_not_block_a_replay(t: T) {
    let scope = scope(&t).await;
    t.store.locks().take("ledger", "ada", at(1_000), at(5)).await.unwrap();
    assert_eq!(scope.lock("ledger").await, Ok(Some(2)), "the next token");
    assert!(matches!(scope.lock("other").await, Err(ScopeError::Denied(_))));
    scope.finish().await.1.unwrap();
    let lock = t.store.locks().get("ledger", at(6)).await.unwrap().unwrap();
    assert_eq!((lock.token, lock.holder.as_str()), (1, "ada"));
}

async fn replay_does_not_wait_for_locks_of_others(t: T) {
    let scope = scope(&t).await;
    let db = t.store.datasources.get(SHOP).unwrap();
    let mut working = db.begin_declared(true, Duration::from_secs(60)).await.unwrap();
    working.execute_declared("INSERT INTO goods (id) VALUES (1)", &[]).await.unwrap();
    let refused = scope.sql_execute(&add(), vec![Integer(1)]).await.unwrap_err();
    assert!(!matches!(refused, ScopeError::Limit(_)), "not its own time limit ended the wait: {refused}");
    working.commit().await.unwrap();
    let (asked, whole) = scope.finish().await;
    whole.unwrap();
    assert_eq!(asked.sql, []);
    assert_eq!(goods(&t).await, 1);
}

/// The reverse case: a working attempt waits until the replay is dropped.
async fn replay_releases_its_locks_soon(t: T) {
    let scope = scope(&t).await;
    let select = statement("SELECT id FROM goods", false);
    scope.sql_query(&select, vec![]).await.unwrap();
    if t.kind == Kind::Sqlite {
        let patience = Duration::from_millis(200);
        let waited = tokio::time::timeout(patience, scope.held_too_long()).await;
        assert!(waited.is_err(), "reads of SQLite hold nothing, however long");
    }
    let began = Instant::now();
    scope.sql_execute(&add(), vec![Integer(1)]).await.unwrap();
    let works = async {
        let db = t.store.datasources.get(SHOP).unwrap();
        let mut working = db.begin_declared(true, Duration::from_secs(60)).await.unwrap();
        working.execute_declared("INSERT INTO goods (id) VALUES (1)", &[]).await.unwrap();
        working.commit().await.unwrap();
        began.elapsed()
    };
    let undone = async {
        scope.held_too_long().await;
        scope.finish().await
    };
    let (waited, (asked, _)) = tokio::join!(works, undone);
    // A wait beyond its own limit of 60 s would have failed the working attempt.
    assert!(waited >= HELD_MAX, "{waited:?}");
    assert_eq!((asked.sql.len(), goods(&t).await), (1, 1));
}

async fn a_statement_that_failed_fails_the_attempt(t: T) {
    let scope = scope(&t).await;
    scope.sql_execute(&add(), vec![Integer(1)]).await.unwrap();
    assert!(scope.sql_execute(&add(), vec![Integer(1)]).await.is_err());
    let (_, whole) = scope.finish().await;
    assert!(whole.unwrap_err().to_string().contains("so all are undone"));
    assert_eq!(goods(&t).await, 0);
}

/// SQLite cannot check constraints before the commit.
async fn conflict_at_commit_is_reported(t: T) {
    if t.kind == Kind::Sqlite {
        return;
    }
    let scope = scope(&t).await;
    let table = "CREATE TABLE numbered (id BIGSERIAL, n BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    execute(&t.shop_url, table).await;
    let add = statement("INSERT INTO numbered (n) VALUES ($1)", true);
    for _ in 0..2 {
        scope.sql_execute(&add, vec![Integer(1)]).await.unwrap();
    }
    let why = scope.finish().await.1.unwrap_err().to_string();
    assert!(why.contains("refused the commit") && why.contains("duplicate key"), "{why}");
    // A sequence does not take back the numbers it gave out.
    execute(&t.shop_url, "INSERT INTO numbered (n) VALUES (1)").await;
    assert_eq!(t.rows("SELECT id AS n FROM public.numbered").await[0].int("n").unwrap(), 3);
}

async fn recorded_effects_are_bounded(t: T) {
    let scope = scope(&t).await;
    let none = statement("DELETE FROM goods WHERE CAST(id AS TEXT) = $1", true);
    let large = || vec![Text("x".repeat(4 << 20))];
    for _ in 0..4 {
        assert_eq!(scope.sql_execute(&none, large()).await, Ok(0));
    }
    let refused = scope.sql_execute(&none, large()).await;
    assert!(matches!(&refused, Err(ScopeError::Limit(why)) if why.contains("16777216")), "{refused:?}");
    assert_eq!(scope.finish().await.0.sql.len(), 4);
}

async fn recorded_attempts_have_their_inputs(t: T) {
    let job = granted();
    let (run, _) = t.discover(&job, &["a"], 0).await;
    for (seconds, result) in [(0, failed()), (100, awaiting()), (10_000, resolved())] {
        let item = t.claim_one(seconds).await;
        t.end(&item, result, seconds + 1).await;
    }
    // Lost and interrupted attempts are useless for a replay.
    t.discover(&job, &["b"], 10_001).await;
    t.claim_one(10_001).await;
    t.store.items().recover(None, |_| 5, at(20_000)).await.unwrap();

    let recorded = t.store.attempts().to_replay(&job.name, 10).await.unwrap();
    let line = |one: &crate::attempts::replay::Recorded| {
        let Claimed { key, attempts, series, epoch, .. } = &one.item;
        let since = |time: Option<jiff::Timestamp>| time.map(|time| time.duration_since(at(0)).as_secs());
        let (first, last) = (since(one.item.first_attempt_at), since(one.item.last_attempt_at));
        let begun = since(Some(one.item.claimed_at)).unwrap();
        let before = one.item.last_error.as_ref().map(|error| error.code.as_str());
        let queued = one.item.run_id.is_some();
        assert_eq!(one.item.found_by, Some(run));
        format!(
            "{key} at {begun} attempts={attempts} series={series} epoch={epoch} first={first:?} last={last:?} \
             last_error={before:?} queued={queued}: {} {:?} {:?} cpu={}\n",
            one.verdict,
            one.error.as_ref().map(|error| &error.code),
            one.note,
            one.usage.cpu_us
        )
    };
    expect![[r#"
        a at 10000 attempts=2 series=1 epoch=3 first=Some(0) last=Some(100) last_error=None queued=false: resolved None Some("done") cpu=700
        a at 100 attempts=1 series=1 epoch=2 first=Some(0) last=Some(0) last_error=Some("flaky") queued=false: awaiting None None cpu=700
        a at 0 attempts=0 series=1 epoch=1 first=None last=None last_error=None queued=true: failed Some("flaky") None cpu=700
    "#]].assert_eq(&recorded.iter().map(line).collect::<String>());
    assert_eq!(t.store.attempts().to_replay(&job.name, 2).await.unwrap().len(), 2);
    assert_eq!(t.store.attempts().to_replay(&"other".parse().unwrap(), 2).await.unwrap().len(), 0);
}
