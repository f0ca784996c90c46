//! Keys with a time to live, and keys that change only if no other attempt changed them.

use std::sync::Arc;

use domain::job::{Capability, Grants, JobSpec};
use domain::lease::Hold;
use domain::scope::{Scope, ScopeError, Swap};
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{T, at, end, job, lease, resolved};
use crate::StoreError;
use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::scope::AttemptScope;

on_both! {
    value_expires,
    compare_and_set_sees_the_attempts_own_writes,
    one_of_two_conflicting_swaps_is_repeated,
    expired_key_does_not_exist,
    conflicting_swap_is_detected_before_sql_is_committed,
    keys_of_a_job_are_bounded,
    overwritten_key_uses_no_quota,
    writes_of_other_hosts_count_after_a_minute,
}

fn granted() -> JobSpec {
    let datasources = [(super::support::SHOP.to_owned(), domain::job::Access::ReadWrite)].into();
    JobSpec {
        grants: Grants { capabilities: [Capability::KeyValue].into(), datasources, ..Grants::default() },
        ..job()
    }
}

struct Attempt {
    scope: AttemptScope,
    end: AttemptEnd,
}

async fn attempt(t: &T, key: &str, now: i64) -> Attempt {
    attempt_of(granted(), t, key, now).await
}

async fn attempt_of(job: JobSpec, t: &T, key: &str, now: i64) -> Attempt {
    t.discover(&job, &[key], now).await;
    let item = t.store.items().claim(&job, lease(1, now), 1).await.unwrap().remove(0);
    let end = end(&item, &resolved(), now);
    Attempt { scope: t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()), end }
}

impl Attempt {
    async fn commit(self, t: &T) -> Result<Committed, StoreError> {
        let effects = self.scope.end().await?.unwrap();
        t.store.attempts().end(Arc::new(AttemptEnd { effects, ..self.end })).await
    }

    async fn swap(&self, expected: Option<&str>, value: Option<&str>) -> bool {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let swap = Swap { expected: expected.map(bytes), value: value.map(bytes), ttl: None };
        self.scope.kv_compare_and_set("b", "k", swap).await.unwrap()
    }

    /// Tries to set these keys. Returns the refused ones, with the reasons.
    async fn refused(&self, keys: &[&str]) -> Vec<String> {
        let mut refused = Vec::new();
        for key in keys {
            match self.scope.kv_set("b", key, Some(b"v".to_vec())).await {
                Err(ScopeError::Limit(why)) => refused.push(format!("{key}: {why}")),
                other => other.unwrap(),
            }
        }
        refused
    }

    async fn get(&self) -> Option<String> {
        let value = self.scope.kv_get("b", "k").await.unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }
}

async fn value_expires(t: T) {
    let first = attempt(&t, "a", 0).await;
    first.scope.kv_set_for("b", "k", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    assert_eq!(first.get().await.as_deref(), Some("v"));
    first.commit(&t).await.unwrap();
    assert_eq!(attempt(&t, "b", 9).await.get().await.as_deref(), Some("v"));
    let late = attempt(&t, "c", 10).await;
    assert_eq!(late.get().await, None);
    assert_eq!(late.scope.kv_keys("b", 0).await.unwrap().keys, Vec::<String>::new());
    assert_eq!(t.store.locks().prune(at(0), at(9)).await.unwrap(), 0);
    assert_eq!(t.store.locks().prune(at(0), at(10)).await.unwrap(), 1);
    // A key that is written without a time to live stays.
    late.scope.kv_set_for("b", "k", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    late.scope.kv_set("b", "k", Some(b"w".to_vec())).await.unwrap();
    late.commit(&t).await.unwrap();
    assert_eq!(attempt(&t, "d", 1_000).await.get().await.as_deref(), Some("w"));
}

async fn compare_and_set_sees_the_attempts_own_writes(t: T) {
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

/// For each kind of compare-and-set: create, change and delete.
async fn one_of_two_conflicting_swaps_is_repeated(t: T) {
    let ways: [(Option<&str>, Option<&str>); 3] =
        [(None, Some("1")), (Some("1"), Some("2")), (Some("2"), None)];
    for (n, (expected, value)) in ways.into_iter().enumerate() {
        let now = 10 * i64::try_from(n).unwrap();
        let (one, two) =
            (attempt(&t, &format!("one-{n}"), now).await, attempt(&t, &format!("two-{n}"), now).await);
        assert!(one.swap(expected, value).await && two.swap(expected, value).await);
        let (one, two) = (Arc::new(ended(one).await), Arc::new(ended(two).await));
        assert_eq!(t.store.attempts().end(one).await.unwrap(), Committed::Applied);
        let before = t.everything().await;
        let error = t.store.attempts().end(two).await.unwrap_err();
        assert!(matches!(&error, StoreError::Raced(why) if why.contains("\"k\" was changed")), "{error:?}");
        assert_eq!(t.everything().await, before);
    }
}

async fn ended(attempt: Attempt) -> AttemptEnd {
    let effects = attempt.scope.end().await.unwrap().unwrap();
    AttemptEnd { effects, ..attempt.end }
}

async fn expired_key_does_not_exist(t: T) {
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

async fn conflicting_swap_is_detected_before_sql_is_committed(t: T) {
    let write = domain::plugin::Statement {
        datasource: super::support::SHOP.to_owned(),
        sql: "INSERT INTO shop_exists (id) VALUES (7)".to_owned(),
        writes: true,
        params: None,
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

/// A job that may keep at most three keys.
fn frugal() -> JobSpec {
    let mut job = granted();
    job.limits.kv_keys = 3;
    job
}

async fn keys_of_a_job_are_bounded(t: T) {
    let full = |key: &str| format!("{key}: job wallet keeps 3 keys: delete some, or raise limits.kv_keys");
    let first = attempt_of(frugal(), &t, "a", 0).await;
    assert_eq!(first.refused(&["1", "2", "3", "4", "5"]).await, [full("4"), full("5")]);
    first.commit(&t).await.unwrap();

    let second = attempt_of(frugal(), &t, "b", 5).await;
    assert_eq!(second.refused(&["1", "4", "3"]).await, [full("4")], "those that it keeps may change");
    second.scope.kv_set("b", "2", None).await.unwrap();
    second.scope.kv_set_for("b", "3", b"v".to_vec(), SignedDuration::from_secs(10)).await.unwrap();
    second.commit(&t).await.unwrap();

    let third = attempt_of(frugal(), &t, "c", 10).await;
    assert_eq!(third.refused(&["1", "4", "5"]).await, [full("5")], "one was deleted");
    third.scope.kv_set("b", "5", None).await.unwrap();
    assert_eq!(third.refused(&["5"]).await, [full("5")], "to delete it first does not help");
    third.commit(&t).await.unwrap();
    let fourth = attempt_of(frugal(), &t, "d", 20).await;
    assert_eq!(fourth.refused(&["5"]).await, [full("5")], "one has ended, and is not removed yet");
    t.store.locks().prune(at(0), at(20)).await.unwrap();
    let fifth = attempt_of(frugal(), &t, "e", 22).await;
    assert_eq!(fifth.refused(&["5", "6"]).await, [full("6")]);
    fifth.commit(&t).await.unwrap();

    let mut other = frugal();
    other.name = "other".parse().unwrap();
    let other = attempt_of(other, &t, "f", 22).await;
    assert_eq!(other.refused(&["4", "5", "6"]).await, [""; 0], "others have their own");
}

async fn overwritten_key_uses_no_quota(t: T) {
    let first = attempt_of(frugal(), &t, "a", 0).await;
    assert_eq!(first.refused(&["1", "2"]).await, [""; 0]);
    first.commit(&t).await.unwrap();
    let second = attempt_of(frugal(), &t, "b", 10).await;
    assert_eq!(second.refused(&["1", "2", "3"]).await, [""; 0]);
    let replayed = t.store.scope_of_discovery(Arc::new(frugal()), at(10), Hold::without_end());
    replayed.kv_set("b", "4", Some(b"v".to_vec())).await.unwrap();
    second.commit(&t).await.unwrap();
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM kv").await, 3);
}

async fn writes_of_other_hosts_count_after_a_minute(t: T) {
    let mut job = frugal();
    (job.limits.kv_keys, job.limits.kv_keys_per_page) = (5, 1);
    let here = attempt_of(job.clone(), &t, "a", 0).await;
    assert_eq!(here.refused(&["1"]).await, [""; 0]);
    here.commit(&t).await.unwrap();
    for key in ["2", "3", "4", "5", "6"] {
        let sql = format!(
            "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms) SELECT job, bucket, '{key}', value, 0 FROM kv WHERE kv_key = '1'"
        );
        t.tamper(&sql).await.unwrap();
    }
    assert_eq!(attempt_of(job.clone(), &t, "b", 59).await.refused(&["7"]).await, [""; 0]);
    assert_eq!(attempt_of(job, &t, "c", 121).await.refused(&["7"]).await.len(), 1);
}
