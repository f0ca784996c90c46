//! Named locks: one holder at a time, increasing tokens, and an end with the attempt.

use std::sync::Arc;

use domain::item::Claimed;
use domain::job::{Grants, JobSpec};
use domain::lease::Hold;
use domain::scope::{Scope, ScopeError};
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, end, job, lease, resolved};
use crate::attempts::locks::LockResult;
use crate::attempts::scope::AttemptScope;

on_both! {
    a_lock_has_one_holder_and_ends_with_the_attempt,
    items_of_one_claim_share_no_lock,
    a_lock_ends_when_its_item_is_taken_away,
    the_api_holds_a_lock_for_a_time,
    one_of_many_attempts_gets_the_lock,
    lock_needs_a_grant,
    removed_lock_keeps_its_token,
    an_attempt_that_lost_its_item_gets_none,
}

fn granted(name: &str) -> JobSpec {
    let locks = ["ledger".parse().unwrap(), "wallet:*".parse().unwrap()].into();
    JobSpec { name: name.parse().unwrap(), grants: Grants { locks, ..Grants::default() }, ..job() }
}

async fn attempt(t: &T, job: &str, key: &str, now: i64) -> (Claimed, AttemptScope) {
    let job = granted(job);
    t.discover(&job, &[key], now).await;
    let item = t.store.items().claim(&job, lease(1, now), 1).await.unwrap().remove(0);
    (item.clone(), t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()))
}

async fn a_lock_has_one_holder_and_ends_with_the_attempt(t: T) {
    let (item, first) = attempt(&t, "wallet", "a", 0).await;
    let (_, second) = attempt(&t, "stock", "b", 0).await;
    assert_eq!(first.lock("ledger").await, Ok(Some(1)));
    assert_eq!(first.lock("ledger").await, Ok(Some(1)), "asked again");
    assert_eq!(second.lock("ledger").await, Ok(None));
    assert_eq!(second.lock("wallet:7").await, Ok(Some(1)), "another lock");
    let held = t.store.locks().list("", at(1), 10).await.unwrap();
    let reported: Vec<_> =
        held.iter().map(|lock| format!("{} {} {}", lock.name, lock.token, lock.holder)).collect();
    assert_eq!(reported, ["ledger 1 job wallet, item a", "wallet:7 1 job stock, item b"]);
    t.store.attempts().end(Arc::new(end(&item, &resolved(), 1))).await.unwrap();
    assert_eq!(second.lock("ledger").await, Ok(Some(2)));
}

async fn items_of_one_claim_share_no_lock(t: T) {
    let job = Arc::new(granted("wallet"));
    t.discover(&job, &["a", "b"], 0).await;
    let items = t.store.items().claim(&job, lease(1, 0), 2).await.unwrap();
    assert_eq!(items[0].attempt_id, items[1].attempt_id);
    let scope = |item: &Claimed| t.store.scope_of_attempt(job.clone(), item.clone(), Hold::without_end());
    let scopes: Vec<_> = items.iter().map(scope).collect();
    assert_eq!(scopes[0].lock("ledger").await, Ok(Some(1)));
    assert_eq!(scopes[1].lock("ledger").await, Ok(None));
}

async fn a_lock_ends_when_its_item_is_taken_away(t: T) {
    let (_, first) = attempt(&t, "wallet", "a", 0).await;
    assert_eq!(first.lock("ledger").await, Ok(Some(1)));
    // The lease has expired but was not recovered yet: the holder may still be working.
    let (_, second) = attempt(&t, "stock", "b", 1_000).await;
    assert_eq!(second.lock("ledger").await, Ok(None));
    t.store.items().recover(None, |_| 5, at(1_000)).await.unwrap();
    assert_eq!(second.lock("ledger").await, Ok(Some(2)));
}

async fn an_attempt_that_lost_its_item_gets_none(t: T) {
    let (_, scope) = attempt(&t, "wallet", "a", 0).await;
    t.store.items().recover(None, |_| 5, at(1_000)).await.unwrap();
    assert!(matches!(scope.lock("ledger").await, Err(ScopeError::Unavailable(_))));
    assert_eq!(t.store.locks().list("", at(1_000), 10).await.unwrap(), []);
}

async fn the_api_holds_a_lock_for_a_time(t: T) {
    let (_, scope) = attempt(&t, "wallet", "a", 0).await;
    assert_eq!(t.store.locks().take("ledger", "ada", at(10), at(0)).await.unwrap(), LockResult::Token(1));
    assert_eq!(scope.lock("ledger").await, Ok(None));
    let LockResult::Held(lock) = t.store.locks().take("ledger", "bob", at(10), at(1)).await.unwrap() else {
        panic!()
    };
    assert_eq!((lock.holder.as_str(), lock.until), ("ada", Some(at(10))));
    assert!(!t.store.locks().renew("ledger", 7, at(20), "ada", at(5)).await.unwrap(), "not her token");
    assert!(t.store.locks().renew("ledger", 1, at(20), "ada", at(5)).await.unwrap());
    assert!(!t.store.locks().renew("ledger", 1, at(30), "ada", at(20)).await.unwrap(), "its time is over");
    assert_eq!(t.store.locks().take("ledger", "bob", at(40), at(20)).await.unwrap(), LockResult::Token(2));
    assert!(!t.store.locks().release("ledger", Some(1), "ada", at(21)).await.unwrap(), "it is bob's now");
    assert!(t.store.locks().release("ledger", None, "ada", at(21)).await.unwrap());
    assert_eq!(scope.lock("ledger").await, Ok(Some(3)));
    assert!(!t.store.locks().release("ledger", None, "ada", at(22)).await.unwrap(), "an attempt's lock");
    expect![[r#"
        ada lock_taken ledger: token 1, until 2026-11-20T12:00:10Z
        ada lock_renewed ledger: token 1, until 2026-11-20T12:00:20Z
        bob lock_taken ledger: token 2, until 2026-11-20T12:00:40Z
        ada lock_released ledger: token 2
    "#]]
    .assert_eq(
        &t.trail()
            .await
            .lines()
            .filter(|line| line.contains(" lock_"))
            .fold(String::new(), |all, line| all + line + "\n"),
    );
}

async fn one_of_many_attempts_gets_the_lock(t: T) {
    for round in 0..5_i64 {
        let takers = (0..8).map(|n| {
            let store = t.store.clone();
            tokio::spawn(async move {
                store
                    .locks()
                    .take("ledger", &format!("taker {n}"), at(10 * round + 9), at(10 * round))
                    .await
                    .unwrap()
            })
        });
        let mut tokens = Vec::new();
        for taker in takers.collect::<Vec<_>>() {
            if let LockResult::Token(token) = taker.await.unwrap() {
                tokens.push(token);
            }
        }
        assert_eq!(tokens, [round + 1]);
    }
}

async fn lock_needs_a_grant(t: T) {
    let (_, scope) = attempt(&t, "wallet", "a", 0).await;
    let mut limited = granted("wallet");
    limited.limits.locks = 1;
    let discovery = t.store.scope_of_discovery(Arc::new(limited), at(0), Hold::without_end());
    let mut reported = String::new();
    for name in ["other", "wallet:*", &format!("wallet:{}", "x".repeat(200))] {
        reported.push_str(&format!("{}\n", scope.lock(name).await.unwrap_err()));
    }
    reported.push_str(&format!("{}\n", discovery.lock("ledger").await.unwrap_err()));
    for n in 0..16 {
        assert_eq!(scope.lock(&format!("wallet:{n}")).await, Ok(Some(1)));
    }
    reported.push_str(&format!("{}\n", scope.lock("wallet:16").await.unwrap_err()));
    assert_eq!(scope.lock("wallet:3").await, Ok(Some(1)), "one that it has");
    expect![[r#"
        denied: job wallet is not granted lock "other"
        limit: no name of a lock: '*' is not allowed in it
        limit: no name of a lock: it has 207 bytes, 1 to 128 are allowed
        denied: a discovery takes no locks
        limit: more than 16 locks in an attempt
    "#]]
    .assert_eq(&reported);
}

async fn removed_lock_keeps_its_token(t: T) {
    for second in 0..3 {
        let taken = t.store.locks().take("old", "ada", at(second + 1), at(second)).await.unwrap();
        assert_eq!(taken, LockResult::Token(second + 1));
    }
    t.store.locks().take("held", "ada", at(1_000), at(0)).await.unwrap();
    let (_, scope) = attempt(&t, "wallet", "a", 0).await;
    scope.lock("ledger").await.unwrap();
    assert_eq!(t.store.locks().prune(at(100), at(200)).await.unwrap(), 1);
    assert_eq!(t.store.locks().prune(at(100), at(200)).await.unwrap(), 0);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM named_lock").await, 3);
    assert_eq!(t.store.locks().take("old", "ada", at(300), at(200)).await.unwrap(), LockResult::Token(4));
    assert_eq!(t.store.locks().take("new", "ada", at(300), at(200)).await.unwrap(), LockResult::Token(4));
    assert_eq!(t.store.locks().list("held", at(200), 10).await.unwrap().len(), 3, "names after it");
}
