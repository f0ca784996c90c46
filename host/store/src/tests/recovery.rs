//! Items of a lost host are recovered: once, ahead of new items, without counting an attempt, and not
//! forever.

use domain::item::State;
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, config, failed, host, job, lease, resolved};
use crate::Store;
use crate::attempts::commit::Committed;

on_both! {
    renewed_lease_is_not_taken,
    host_renews_its_own_leases_only,
    abandoned_claims_are_not_renewed,
    lost_item_is_put_back,
    restarted_host_gets_its_items_back_at_once,
    claims_from_before_a_restart_are_not_renewed,
    many_hosts_recover_an_item_once,
    poison_waits_for_a_person,
    poison_does_not_hold_its_run_open,
    bystanders_of_a_crash_are_no_poison,
    ending_forgets_crashes,
    shutdown_is_no_crash,
    failure_of_the_host_is_no_crash_and_no_attempt,
    running_attempt_is_not_shown_as_a_crash,
}

async fn renewed_lease_is_not_taken(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    t.store.items().renew(lease(1, 10)).await.unwrap();
    t.store.items().renew(lease(2, 500)).await.unwrap();
    assert!(t.store.items().recover(None, |_| 5, at(25)).await.unwrap().is_empty());
    assert_eq!(t.end(&item, resolved(), 25).await, Committed::Applied);
}

async fn host_renews_its_own_leases_only(t: T) {
    t.discover(&job(), &["a"], 0).await;
    t.claim_one(0).await;
    t.run(&job(), 0).await;
    t.store.items().renew(lease(2, 10)).await.unwrap();
    assert_eq!(t.store.items().recover(None, |_| 5, at(20)).await.unwrap().len(), 1);
    assert!(t.store.runs().claim(&job().name, lease(2, 20)).await.unwrap().is_some());
}

/// A claim whose attempt ended without a result, beside one that continues.
async fn abandoned_claims_are_not_renewed(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let left = t.claim_one(0).await;
    t.discover(&job(), &["b"], 0).await;
    t.claim_one(0).await;
    t.store.items().let_go(left.attempt_id);
    t.store.items().renew(lease(1, 10)).await.unwrap();
    let recovered = t.store.items().recover(None, |_| 5, at(20)).await.unwrap();
    assert_eq!(recovered.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["a"]);
}

async fn lost_item_is_put_back(t: T) {
    t.attempt("a", failed(), 0).await;
    let lost = t.claim_one(10).await;
    assert!(
        t.store.items().recover(None, |_| 5, at(25)).await.unwrap().is_empty(),
        "the lease is not over at its end"
    );
    let recovered = t.store.items().recover(None, |_| 5, at(26)).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(
        (recovered[0].key.as_str(), recovered[0].state, recovered[0].crashes),
        ("a", State::Scheduled, 1)
    );

    assert_eq!(t.items().await, "a retrying attempts=1 due=26 flaky: try later\n");
    let attempts = t.store.items().attempts("wallet", "a", 9).await.unwrap();
    let lines: String =
        attempts.iter().map(|a| format!("epoch {} number {} {}\n", a.epoch, a.number, a.verdict)).collect();
    expect![[r#"
        epoch 2 number 2 lost
        epoch 1 number 1 failed
    "#]]
    .assert_eq(&lines);
    expect!["tidemill lost a: held by host 00000000-0000-0000-0000-000000000001 at epoch 2; crash 1 in a row; now scheduled"]
        .assert_eq(t.trail().await.lines().last().unwrap());

    let again = t.claim_one(26).await;
    assert_eq!(
        again.idempotency_key(),
        lost.idempotency_key(),
        "the repetition is the same attempt to the world"
    );
    assert_eq!(t.end(&lost, resolved(), 27).await, Committed::Stale);
    assert_eq!(t.end(&again, resolved(), 27).await, Committed::Applied);
}

async fn restarted_host_gets_its_items_back_at_once(t: T) {
    t.discover(&job(), &["a", "b"], 0).await;
    t.claim(1, 0).await;
    t.store.items().claim(&job(), lease(2, 0), 1).await.unwrap();
    let recovered = t.store.items().recover(Some(host(1)), |_| 5, at(1)).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(t.running().await, 1, "host 2 lives");
}

/// A database session that outlives its host can commit a claim after the restart has recovered the host's
/// claims.
async fn claims_from_before_a_restart_are_not_renewed(t: T) {
    t.discover(&job(), &["a", "b"], 0).await;
    let own = t.store.items().claim(&job(), lease(1, 0), 1).await.unwrap().remove(0);
    let former = Store::open(&config(&t.url, &t.shop_url)).await.unwrap();
    former.items().claim(&job(), lease(1, 0), 1).await.unwrap();
    former.jobs().trigger(&job().name, None, "test", at(0)).await.unwrap();
    former.runs().claim(&job().name, lease(1, 0)).await.unwrap().unwrap();
    former.close().await;

    t.store.items().renew(lease(1, 10)).await.unwrap();
    let recovered = t.store.items().recover(None, |_| 5, at(20)).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert_ne!(recovered[0].key, own.key);
    assert!(t.store.runs().claim(&job().name, lease(2, 20)).await.unwrap().is_some());
    assert_eq!(t.end(&own, resolved(), 21).await, Committed::Applied);
}

async fn many_hosts_recover_an_item_once(t: T) {
    let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    t.claim(60, 0).await;
    let hosts: Vec<_> = (0..8)
        .map(|_| {
            let t = t.clone();
            tokio::spawn(async move { t.store.items().recover(None, |_| 5, at(20)).await.unwrap().len() })
        })
        .collect();
    let mut recovered = 0;
    for host in hosts {
        recovered += host.await.unwrap();
    }
    assert_eq!(recovered, 60);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM attempt WHERE verdict = 'lost'").await, 60);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM audit WHERE action = 'lost'").await, 60);
}

/// Loses the due item `times` times, 20 seconds apart.
async fn lose(t: &T, times: i64, from: i64) {
    for n in 0..times {
        t.claim_one(from + 20 * n).await;
        t.store.items().recover(None, |_| 3, at(from + 20 * n + 16)).await.unwrap();
    }
}

async fn poison_waits_for_a_person(t: T) {
    t.discover(&job(), &["a"], 0).await;
    lose(&t, 2, 0).await;
    assert_eq!(t.items().await, "a pending attempts=0 due=36\n");
    lose(&t, 1, 40).await;
    expect![[r#"
        a manual_required attempts=0 due=56 poison: its host was lost 3 times in a row while it ran
    "#]]
    .assert_eq(&t.items().await);
    expect!["tidemill give_up a: held by host 00000000-0000-0000-0000-000000000001 at epoch 3; crash 3 in a row; now manual_required"]
        .assert_eq(t.trail().await.lines().last().unwrap());
    assert!(t.claim(9, 999).await.is_empty());
}

async fn poison_does_not_hold_its_run_open(t: T) {
    let (id, _) = t.discover(&job(), &["a"], 0).await;
    lose(&t, 2, 0).await;
    assert_eq!(t.run_view(id).await.state, "running", "it will have its attempt");
    lose(&t, 1, 40).await;
    let run = t.run_view(id).await;
    assert_eq!((run.state.as_str(), run.done, run.failed), ("finished", 1, 1));
}

async fn ending_forgets_crashes(t: T) {
    t.discover(&job(), &["a"], 0).await;
    lose(&t, 2, 0).await;
    let item = t.claim_one(40).await;
    t.end(&item, failed(), 40).await;
    lose(&t, 2, 60).await;
    assert_eq!(t.items().await, "a retrying attempts=1 due=96 flaky: try later\n");
}

async fn shutdown_is_no_crash(t: T) {
    t.discover(&job(), &["a"], 0).await;
    for now in [0, 1, 2, 3, 4] {
        let item = t.claim_one(now).await;
        t.end(&item, Err(domain::failure::Failure::Interrupted), now).await;
    }
    let item = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((item.state, item.crashes, item.attempts), (State::Scheduled, 0, 0));
}

async fn failure_of_the_host_is_no_crash_and_no_attempt(t: T) {
    let (run, _) = t.discover(&job(), &["a"], 0).await;
    let failure = domain::failure::Failure::host("host-resources", "no memory");
    let mut now = 0;
    for _ in 0..6 {
        let item = t.claim_one(now).await;
        t.end(&item, Err(failure.clone()), now).await;
        assert!(t.claim(9, now).await.is_empty(), "not at once");
        now += 600;
    }
    let item = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((item.state, item.crashes, item.attempts), (State::Scheduled, 0, 0));
    assert_eq!(item.error.unwrap().code, "host-resources");
    assert_eq!(t.run_view(run).await.done, 0, "its attempt is still to come");
    let item = t.claim_one(now).await;
    t.end(&item, resolved(), now).await;
    let run = t.run_view(run).await;
    assert_eq!((run.state.as_str(), run.done, run.failed), ("finished", 1, 0));
}

/// One of five items crashes its host each time it runs. The attempts of the others succeed once they run
/// separately.
async fn bystanders_of_a_crash_are_no_poison(t: T) {
    t.discover(&job(), &["a", "b", "killer", "c", "d"], 0).await;
    let mut life = 0;
    for now in 0..60 {
        let claimed = t.store.items().claim(&job(), lease(1, now), 9).await.unwrap();
        if claimed.iter().any(|item| item.key == "killer") {
            life += 1;
            t.store.items().recover(Some(host(1)), |_| 3, at(now)).await.unwrap();
            continue;
        }
        for item in claimed {
            assert_eq!(t.end(&item, resolved(), now).await, Committed::Applied);
        }
    }
    expect![[r#"
        a resolved attempts=1 due=2
        b resolved attempts=1 due=3
        c resolved attempts=1 due=7
        d resolved attempts=1 due=9
        killer manual_required attempts=0 due=5 poison: its host was lost 3 times in a row while it ran
    "#]]
    .assert_eq(&t.items().await);
    assert_eq!(life, 3);
}

async fn running_attempt_is_not_shown_as_a_crash(t: T) {
    t.discover(&job(), &["a"], 0).await;
    t.claim_one(0).await;
    assert_eq!(t.store.items().get("wallet", "a").await.unwrap().unwrap().crashes, 0);
    t.store.items().recover(None, |_| 5, at(60)).await.unwrap();
    assert_eq!(t.store.items().get("wallet", "a").await.unwrap().unwrap().crashes, 1);
    t.claim_one(60).await;
    assert_eq!(t.store.items().get("wallet", "a").await.unwrap().unwrap().crashes, 1);
}
