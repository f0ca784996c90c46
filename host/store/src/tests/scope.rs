//! Access of one attempt to the host's state: grants, limits, and no writes without an outcome.

use std::sync::Arc;

use domain::clock::Clock;
use domain::id::{EventId, KEY_BYTES_MAX};
use domain::job::{Capability, Grants, JobSpec};
use domain::lease::{Hold, Trust};
use domain::scope::{Keys, Scope, ScopeError};
use expect_test::expect;
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{T, at, end, event, job, resolved};
use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::scope::AttemptScope;

on_both! {
    attempt_reads_its_own_writes,
    writes_are_stored_with_the_outcome,
    aborted_attempt_leaves_nothing,
    jobs_do_not_see_each_others_keys,
    keys_come_in_pages,
    calls_need_their_grants,
    exceeded_limits_are_reported,
    discovery_reads_and_its_writes_are_dropped,
    nothing_follows_the_end,
    nothing_is_answered_without_a_hold,
    events_keep_their_order,
}

fn granted() -> JobSpec {
    let grants = Grants {
        capabilities: [Capability::KeyValue].into(),
        topics: ["wallets".to_owned()].into(),
        ..Grants::default()
    };
    JobSpec { grants, ..job() }
}

async fn scope_of(t: &T, job: JobSpec, key: &str) -> (domain::item::Claimed, AttemptScope) {
    t.discover(&job, &[key], 0).await;
    let item = t.store.items().claim(&job, super::support::lease(1, 0), 1).await.unwrap().remove(0);
    (item.clone(), t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()))
}

/// An attempt that writes `value` (or deletes the key) and is resolved.
async fn write(t: &T, job: JobSpec, key: &str, value: Option<&[u8]>) {
    let (item, scope) = scope_of(t, job, &format!("item of {key}")).await;
    scope.kv_set("b", key, value.map(<[u8]>::to_vec)).await.unwrap();
    let effects = scope.end().await.unwrap().unwrap();
    let end = AttemptEnd { effects, ..end(&item, &resolved(), 0) };
    assert_eq!(t.store.attempts().end(Arc::new(end)).await.unwrap(), Committed::Applied);
}

async fn attempt_reads_its_own_writes(t: T) {
    write(&t, granted(), "kept", Some(b"old")).await;
    let (_, scope) = scope_of(&t, granted(), "a").await;
    assert_eq!(scope.kv_get("b", "kept").await.unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(scope.kv_get("b", "none").await.unwrap(), None);
    scope.kv_set("b", "kept", Some(b"new".to_vec())).await.unwrap();
    scope.kv_set("b", "empty", Some(Vec::new())).await.unwrap();
    assert_eq!(scope.kv_get("b", "kept").await.unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(scope.kv_get("b", "empty").await.unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(scope.kv_get("other bucket", "kept").await.unwrap(), None);
    scope.kv_set("b", "kept", None).await.unwrap();
    assert_eq!(scope.kv_get("b", "kept").await.unwrap(), None, "deleted here, still stored");
    let (_, other) = scope_of(&t, granted(), "b").await;
    assert_eq!(other.kv_get("b", "kept").await.unwrap().as_deref(), Some(&b"old"[..]));
}

async fn writes_are_stored_with_the_outcome(t: T) {
    write(&t, granted(), "k", Some(b"one")).await;
    write(&t, granted(), "k", Some(&[0, 255])).await;
    let (_, scope) = scope_of(&t, granted(), "a").await;
    assert_eq!(scope.kv_get("b", "k").await.unwrap(), Some(vec![0, 255]));
    write(&t, granted(), "k", None).await;
    assert_eq!(scope.kv_get("b", "k").await.unwrap(), None);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM kv").await, 0);
}

async fn aborted_attempt_leaves_nothing(t: T) {
    let (_, scope) = scope_of(&t, granted(), "a").await;
    let before = t.everything().await;
    scope.kv_set("b", "k", Some(b"v".to_vec())).await.unwrap();
    scope.add(event("wallets", "k", "{}")).await.unwrap();
    scope.abort().await;
    assert_eq!(t.everything().await, before);
    let effects = scope.end().await.unwrap().unwrap();
    assert!(effects.kv.is_empty() && effects.requested.is_empty());
}

async fn jobs_do_not_see_each_others_keys(t: T) {
    write(&t, granted(), "k", Some(b"secret")).await;
    let other = JobSpec { name: "other".parse().unwrap(), ..granted() };
    let (_, scope) = scope_of(&t, other, "a").await;
    assert_eq!(scope.kv_get("b", "k").await.unwrap(), None);
    assert_eq!(scope.kv_keys("b", 0).await.unwrap(), Keys::default());
}

async fn keys_come_in_pages(t: T) {
    let mut job = granted();
    job.limits.kv_keys_per_page = 2;
    for key in ["c", "a", "b", "d", "e"] {
        write(&t, granted(), key, Some(b"v")).await;
    }
    let (_, scope) = scope_of(&t, job, "x").await;
    let (mut from, mut all) = (Some(0), Vec::new());
    while let Some(offset) = from {
        let page = scope.kv_keys("b", offset).await.unwrap();
        assert!(page.keys.len() <= 2);
        all.extend(page.keys);
        from = page.next;
    }
    assert_eq!(all, ["a", "b", "c", "d", "e"]);
}

async fn calls_need_their_grants(t: T) {
    let (_, scope) = scope_of(&t, job(), "a").await;
    let mut reported = String::new();
    let mut tell = |error: ScopeError| reported.push_str(&format!("{error}\n"));
    tell(scope.kv_get("b", "k").await.unwrap_err());
    tell(scope.kv_set("b", "k", None).await.unwrap_err());
    tell(scope.kv_keys("b", 0).await.unwrap_err());
    tell(scope.add(event("wallets", "k", "{}")).await.unwrap_err());
    expect![[r#"
        denied: job wallet is not granted keyvalue
        denied: job wallet is not granted keyvalue
        denied: job wallet is not granted keyvalue
        denied: job wallet is not granted topic "wallets"
    "#]]
    .assert_eq(&reported);
}

async fn exceeded_limits_are_reported(t: T) {
    let mut job = granted();
    job.limits.kv_value_bytes = 3;
    job.limits.kv_keys_per_page = 2;
    job.limits.payload_bytes = 4;
    job.limits.events = 1;
    let (_, scope) = scope_of(&t, job, "a").await;
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let mut reported = String::new();
    let mut tell = |error: ScopeError| reported.push_str(&format!("{error}\n"));
    tell(scope.kv_set("b", "k", Some(vec![0; 4])).await.unwrap_err());
    tell(scope.kv_set(&long, "k", None).await.unwrap_err());
    tell(scope.kv_set("b", &long, None).await.unwrap_err());
    scope.kv_set("b", "1", Some(vec![0; 3])).await.unwrap();
    scope.kv_set("b", "2", None).await.unwrap();
    scope.kv_set("b", "1", Some(vec![1])).await.unwrap();
    tell(scope.kv_set("b", "3", None).await.unwrap_err());
    tell(scope.add(event("wallets", &long, "{}")).await.unwrap_err());
    tell(scope.add(event("wallets", "k", "12345")).await.unwrap_err());
    scope.add(event("wallets", "k", "1234")).await.unwrap();
    tell(scope.add(event("wallets", "k", "{}")).await.unwrap_err());
    expect![[r#"
        limit: a value of 4 bytes, at most 3
        limit: a bucket name of 513 bytes, at most 512
        limit: a key of 513 bytes, at most 512
        limit: more than 2 keys written in an attempt
        limit: an event key of 513 bytes, at most 512
        limit: a payload of 5 bytes, at most 4
        limit: more than 1 events in an attempt
    "#]]
    .assert_eq(&reported);
}

async fn discovery_reads_and_its_writes_are_dropped(t: T) {
    write(&t, granted(), "k", Some(b"v")).await;
    let before = t.everything().await;
    let scope = t.store.scope_of_discovery(Arc::new(granted()), at(1), Hold::without_end());
    assert_eq!(scope.kv_get("b", "k").await.unwrap().as_deref(), Some(&b"v"[..]));
    scope.kv_set("b", "k", None).await.unwrap();
    scope.add(event("wallets", "k", "{}")).await.unwrap();
    scope.end().await.unwrap();
    assert_eq!(t.everything().await, before);
}

async fn nothing_follows_the_end(t: T) {
    let (_, scope) = scope_of(&t, granted(), "a").await;
    scope.end().await.unwrap();
    let ended = ScopeError::Denied("the attempt has ended".to_owned());
    assert_eq!(scope.kv_get("b", "k").await.unwrap_err(), ended);
    assert_eq!(scope.kv_set("b", "k", None).await.unwrap_err(), ended);
    assert_eq!(scope.kv_keys("b", 0).await.unwrap_err(), ended);
    assert_eq!(scope.add(event("wallets", "k", "{}")).await.unwrap_err(), ended);
}

/// A host was stopped for longer than its lease, and its guest continues to call.
async fn nothing_is_answered_without_a_hold(t: T) {
    t.discover(&granted(), &["a"], 0).await;
    let item = t.store.items().claim(&granted(), super::support::lease(1, 0), 1).await.unwrap().remove(0);
    let clock = Clock::manual(at(0));
    let Clock::Manual(hands) = &clock else { panic!("a manual clock") };
    let trust = Arc::new(Trust::new(clock.clone(), SignedDuration::from_secs(14)));
    let hold = Hold::new(trust, item.claimed_at);
    let scope = t.store.scope_of_attempt(Arc::new(granted()), item, hold);
    scope.kv_set("b", "k", Some(b"v".to_vec())).await.unwrap();
    hands.advance(SignedDuration::from_secs(14));
    let refused: Vec<ScopeError> = vec![
        scope.held().unwrap_err(),
        scope.kv_get("b", "k").await.unwrap_err(),
        scope.kv_set("b", "k", None).await.unwrap_err(),
        scope.kv_keys("b", 0).await.unwrap_err(),
        scope.add(event("wallets", "k", "{}")).await.unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(&error, ScopeError::Unavailable(why) if why.contains("lease")), "{error:?}");
    }
}

async fn events_keep_their_order(t: T) {
    let (item, scope) = scope_of(&t, granted(), "a").await;
    let mut published: Vec<EventId> = Vec::new();
    for n in 0..20 {
        published.extend(scope.add(event("wallets", &n.to_string(), "{}")).await.unwrap());
    }
    let effects = scope.end().await.unwrap().unwrap();
    let end = AttemptEnd { effects, ..end(&item, &resolved(), 1) };
    t.store.attempts().end(Arc::new(end)).await.unwrap();
    let pending = t.store.outbox().pending(Some("wallets"), 99).await.unwrap();
    assert_eq!(pending.iter().map(|event| event.id).collect::<Vec<_>>(), published);
}
