//! Keys that end, and keys that change only if nobody else changed them.

use std::sync::Arc;

use domain::job::{Grants, JobSpec};
use domain::lease::Hold;
use domain::scope::{Scope, ScopeError, Swap};
use jiff::SignedDuration;

use super::support::{T, at, conformance, end, job, lease, resolved};
use crate::StoreError;
use crate::commit::{AttemptEnd, Committed};
use crate::scope::AttemptScope;

conformance! {
    a_value_ends_after_its_time,
    a_swap_sees_what_the_attempt_wrote,
    of_two_that_swap_one_is_done_again,
    a_key_that_ended_is_no_key,
    what_was_swapped_by_another_is_found_before_sql_is_committed,
}

fn granted() -> JobSpec {
    let datasources = [(super::support::SHOP.to_owned(), domain::job::Access::ReadWrite)].into();
    JobSpec { grants: Grants { keyvalue: true, datasources, ..Grants::default() }, ..job() }
}

struct Attempt {
    scope: AttemptScope,
    end: AttemptEnd,
}

async fn attempt(t: &T, key: &str, now: i64) -> Attempt {
    let job = granted();
    t.discover(&job, &[key], now).await;
    let item = t.store.claim(&job, lease(1, now), 1).await.unwrap().remove(0);
    let end = end(&item, &resolved(), now);
    Attempt { scope: t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()), end }
}

impl Attempt {
    async fn commit(self, t: &T) -> Result<Committed, StoreError> {
        let effects = self.scope.end().await?.unwrap();
        t.store.end_attempt(Arc::new(AttemptEnd { effects, ..self.end })).await
    }

    async fn swap(&self, expected: Option<&str>, value: Option<&str>) -> bool {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let swap = Swap { expected: expected.map(bytes), value: value.map(bytes), ttl: None };
        self.scope.kv_compare_and_set("b", "k", swap).await.unwrap()
    }

    async fn get(&self) -> Option<String> {
        let value = self.scope.kv_get("b", "k").await.unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }
}

async fn a_value_ends_after_its_time(t: T) {
    let first = attempt(&t, "a", 0).await;
    first.scope.kv_set_for("b", "k", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    assert_eq!(first.get().await.as_deref(), Some("v"));
    first.commit(&t).await.unwrap();
    assert_eq!(attempt(&t, "b", 9).await.get().await.as_deref(), Some("v"));
    let late = attempt(&t, "c", 10).await;
    assert_eq!(late.get().await, None);
    assert_eq!(late.scope.kv_keys("b", 0).await.unwrap().keys, Vec::<String>::new());
    assert_eq!(t.store.prune_locks_and_keys(at(0), at(9)).await.unwrap(), 0);
    assert_eq!(t.store.prune_locks_and_keys(at(0), at(10)).await.unwrap(), 1);
    // Written without a time, a key stays.
    late.scope.kv_set_for("b", "k", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    late.scope.kv_set("b", "k", Some(b"w".to_vec())).await.unwrap();
    late.commit(&t).await.unwrap();
    assert_eq!(attempt(&t, "d", 1_000).await.get().await.as_deref(), Some("w"));
}

async fn a_swap_sees_what_the_attempt_wrote(t: T) {
    let first = attempt(&t, "a", 0).await;
    assert!(!first.swap(Some("x"), Some("1")).await, "there is nothing");
    assert!(first.swap(None, Some("1")).await);
    assert!(!first.swap(None, Some("2")).await);
    assert!(first.swap(Some("1"), Some("2")).await);
    first.commit(&t).await.unwrap();
    let second = attempt(&t, "b", 1).await;
    assert!(second.swap(Some("2"), None).await);
    assert!(second.swap(None, Some("3")).await);
    assert_eq!(second.commit(&t).await.unwrap(), Committed::Applied);
    let third = attempt(&t, "c", 2).await;
    assert_eq!(third.get().await.as_deref(), Some("3"));
    assert!(third.swap(Some("3"), None).await);
    third.commit(&t).await.unwrap();
    assert_eq!(attempt(&t, "d", 3).await.get().await, None);
}

/// In each of the ways to build on what was there.
async fn of_two_that_swap_one_is_done_again(t: T) {
    let ways: [(Option<&str>, Option<&str>); 3] =
        [(None, Some("1")), (Some("1"), Some("2")), (Some("2"), None)];
    for (n, (expected, value)) in ways.into_iter().enumerate() {
        let now = 10 * i64::try_from(n).unwrap();
        let (one, two) =
            (attempt(&t, &format!("one-{n}"), now).await, attempt(&t, &format!("two-{n}"), now).await);
        assert!(one.swap(expected, value).await && two.swap(expected, value).await);
        let (one, two) = (Arc::new(ended(one).await), Arc::new(ended(two).await));
        assert_eq!(t.store.end_attempt(one).await.unwrap(), Committed::Applied);
        let before = t.everything().await;
        let error = t.store.end_attempt(two).await.unwrap_err();
        assert!(matches!(&error, StoreError::Raced(why) if why.contains("\"k\" was changed")), "{error:?}");
        assert_eq!(t.everything().await, before);
    }
}

async fn ended(attempt: Attempt) -> AttemptEnd {
    let effects = attempt.scope.end().await.unwrap().unwrap();
    AttemptEnd { effects, ..attempt.end }
}

async fn a_key_that_ended_is_no_key(t: T) {
    let first = attempt(&t, "a", 0).await;
    first.scope.kv_set_for("b", "k", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    first.commit(&t).await.unwrap();
    let late = attempt(&t, "b", 10).await;
    assert!(!late.swap(Some("v"), Some("w")).await);
    assert!(late.swap(None, Some("w")).await);
    assert_eq!(late.commit(&t).await.unwrap(), Committed::Applied);
    assert_eq!(attempt(&t, "c", 11).await.get().await.as_deref(), Some("w"));
    let nobody = attempt(&t, "d", 11).await;
    let bad = nobody.scope.kv_set_for("b", "k", vec![0; 1 << 20], SignedDuration::from_secs(1)).await;
    assert!(matches!(bad, Err(ScopeError::Limit(_))));
}

async fn what_was_swapped_by_another_is_found_before_sql_is_committed(t: T) {
    let write = domain::plugin::Statement {
        datasource: super::support::SHOP.to_owned(),
        sql: "INSERT INTO shop_exists (id) VALUES (7)".to_owned(),
        writes: true,
    };
    let one = attempt(&t, "one", 0).await;
    one.scope.sql_execute(&write, Vec::new()).await.unwrap();
    assert!(one.swap(None, Some("1")).await);
    let two = attempt(&t, "two", 0).await;
    assert!(two.swap(None, Some("2")).await);
    two.commit(&t).await.unwrap();
    assert!(matches!(one.scope.end().await, Err(StoreError::Raced(_))));
    let three = attempt(&t, "three", 0).await;
    let read =
        domain::plugin::Statement { sql: "SELECT id FROM shop_exists".to_owned(), writes: false, ..write };
    assert_eq!(three.scope.sql_query(&read, Vec::new()).await.unwrap().rows, Vec::<Vec<_>>::new());
}
