//! Serialization failures and deadlocks: the transaction is repeated, and its caller sees no error.

use std::sync::Arc;

use domain::job::Access;
use domain::scope::Scope as _;
use test_support::{Kind, execute, run};

use super::sql::{attempt, granted, read, write};
use super::support::{SHOP, T, at, job, page, resolved};
use crate::StoreError;
use crate::answers::{Keyed, Once, StoredResponse};
use crate::attempts::commit::Committed;
use crate::db::args;
use crate::items::flow::sql as flow_sql;
use crate::jobs::sql as jobs_sql;

/// A trigger that fails the first `times` changes of a table, as if another transaction conflicted with them.
fn fails(schema: &str, table: &str, times: u32, code: &str, at_commit: bool) -> String {
    let kind = if at_commit { "CONSTRAINT TRIGGER" } else { "TRIGGER" };
    let when = if at_commit { "AFTER INSERT OR UPDATE" } else { "BEFORE INSERT OR UPDATE" };
    let deferred = if at_commit { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
    let name = format!("meets_{table}_{times}_{code}_{at_commit}").to_lowercase();
    format!(
        "CREATE SEQUENCE {schema}.{name}; CREATE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{schema}.{name}') <= {times} THEN RAISE EXCEPTION 'met' USING ERRCODE = '{code}'; END IF;
            RETURN NEW; END $$;
        CREATE {kind} {name} {when} ON {schema}.{table} {deferred} FOR EACH ROW EXECUTE FUNCTION {schema}.{name}()"
    )
}

async fn prepare(t: &T, table: &str, times: u32, code: &str, at_commit: bool) {
    execute(&t.url, &fails("tidemill", table, times, code, at_commit)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_an_item_succeeds_after_conflicts() {
    async fn case(t: T) {
        for (table, code) in
            [("run", "40001"), ("item", "40001"), ("attempt", "40P01"), ("job", "40P01"), ("host", "40001")]
        {
            prepare(&t, table, 2, code, false).await;
        }
        for table in ["item", "attempt", "run"] {
            prepare(&t, table, 3, "40001", true).await;
        }
        t.store.jobs().put(&job(), at(0)).await.unwrap();
        t.discover(&job(), &["a", "b"], 0).await;
        let claimed = t.claim(2, 0).await;
        assert_eq!(claimed.len(), 2);
        t.store.items().renew(super::support::lease(1, 1)).await.unwrap();
        let ends = claimed.iter().map(|item| t.end(item, resolved(), 1));
        let ends: Vec<_> = futures_util::future::join_all(ends).await;
        assert_eq!(ends, [Committed::Applied; 2]);
        assert_eq!(t.number("SELECT COUNT(*) AS n FROM attempt").await, 2);
        assert_eq!(
            t.number("SELECT COUNT(*) AS n FROM item WHERE state = 'resolved' AND attempts = 1").await,
            2
        );
    }
    run(Kind::Postgres, case).await;
}

/// The parts of one request, which are savepoints of one transaction, are repeated too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_of_several_parts_succeeds_after_conflicts() {
    async fn case(t: T) {
        prepare(&t, "job", 2, "40001", false).await;
        prepare(&t, "answer", 2, "40P01", false).await;
        prepare(&t, "job", 1, "40001", true).await;
        let request = Keyed { actor: "ada", key: "k", sha256: "x" };
        let answer = StoredResponse { status: 201, location: None, body: b"made".to_vec() };
        let work = async {
            t.store.jobs().put(&job(), at(0)).await.unwrap();
            t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
            answer.clone()
        };
        assert_eq!(t.store.answers().once(request, at(0), work).await.unwrap(), Once::Now(answer.clone()));
        let never = async { unreachable!("it is carried out twice") };
        assert_eq!(t.store.answers().once(request, at(1), never).await.unwrap(), Once::Before(answer));
        assert_eq!(t.number("SELECT COUNT(*) AS n FROM run").await, 1);
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_that_never_succeeds_is_not_an_outage() {
    async fn case(t: T) {
        prepare(&t, "job", u32::MAX, "40001", false).await;
        let error = t.store.jobs().put(&job(), at(0)).await.unwrap_err();
        assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
        assert!(!error.to_string().contains("not available"), "{error}");
        assert!(t.store.ping().await.is_ok());
        assert_eq!(t.store.connection_trouble(), None);
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_resolved_and_both_go_on() {
    async fn case(t: T) {
        for name in ["one", "two"] {
            let job = domain::job::JobSpec { name: name.parse().unwrap(), ..job() };
            t.store.jobs().put(&job, at(0)).await.unwrap();
        }
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let turn = |first: &'static str, second: &'static str| {
            let (store, barrier) = (t.store.clone(), barrier.clone());
            tokio::spawn(async move {
                let mut tx = store.db.begin().await?;
                let args = args! { job: first, plugin: "p", schedule: "{}", now: 0_i64 };
                tx.execute(jobs_sql::JOB_PUT, &args).await?;
                barrier.wait().await;
                let args = args! { job: second, plugin: "p", schedule: "{}", now: 0_i64 };
                tx.execute(jobs_sql::JOB_PUT, &args).await?;
                tx.commit().await
            })
        };
        let (one, other) = (turn("one", "two"), turn("two", "one"));
        one.await.unwrap().unwrap();
        other.await.unwrap().unwrap();
    }
    run(Kind::Postgres, case).await;
}

/// The repeated statements would have other results: the error is returned, and nothing is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_that_has_read_is_not_repeated() {
    async fn case(t: T) {
        t.discover(&job(), &["a"], 0).await;
        prepare(&t, "job", 1, "40001", false).await;
        let mut tx = t.store.db.begin().await.unwrap();
        let counted = tx.fetch(flow_sql::RUNNING_COUNT, &args! { job: "wallet" }).await.unwrap();
        assert_eq!(counted[0].int("items").unwrap(), 0);
        t.claim_one(0).await;
        let add = jobs_sql::JOB_PUT;
        let args = args! { job: "wallet", plugin: "p", schedule: "{}", now: 0_i64 };
        let error = tx.execute(add, &args).await.unwrap_err();
        assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
        tx.execute(add, &args).await.unwrap_err();
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_a_job_succeed_after_conflicts() {
    async fn case(t: T) {
        execute(&t.shop_url, "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT)").await;
        execute(&t.shop_url, &fails("public", "goods", 3, "40001", false)).await;
        let (_, scope) = attempt(&t, granted(Access::ReadWrite)).await;
        scope.sql_query(&read("SELECT id FROM goods"), vec![]).await.unwrap();
        for id in 1..4 {
            let add = write(&format!("INSERT INTO goods (id) VALUES ({id})"));
            assert_eq!(scope.sql_execute(&add, vec![]).await.unwrap(), 1);
        }
        assert!(scope.end().await.unwrap().is_some());
        assert_eq!(t.number("SELECT COUNT(*) AS n FROM public.goods").await, 3);
        assert_eq!(scope.contended().await, None);

        execute(&t.shop_url, &fails("public", "goods", u32::MAX, "40P01", false)).await;
        let (_, scope) = attempt(&t, granted(Access::ReadWrite)).await;
        let error = scope.sql_execute(&write("INSERT INTO goods (id) VALUES (9)"), vec![]).await.unwrap_err();
        assert!(matches!(error, domain::scope::ScopeError::Database(_)), "{error}");
        let why = scope.contended().await.unwrap();
        assert!(why.starts_with(&format!("datasource {SHOP:?}: ")), "{why}");
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_not_put_twice() {
    async fn case(t: T) {
        let run = t.run(&job(), 0).await;
        prepare(&t, "item", 2, "40001", true).await;
        let sum = t.put(&run, &job(), &page(&["a", "b", "c"], None), 0).await;
        assert_eq!(sum.queued, 3);
        assert_eq!(t.number("SELECT queued AS n FROM run").await, 3);
    }
    run(Kind::Postgres, case).await;
}
