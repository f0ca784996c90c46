//! Reconciliation of a discovery's items with the known ones.

use std::sync::Arc;

use domain::failure::{ErrorInfo, Failure, SQL_COMMIT};
use domain::item::ManualDecision;
use domain::outcome::{Outcome, decide};
use domain::retry::WhenExhausted;
use domain::runner::{FoundItem, Page};
use expect_test::expect;
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{T, at, awaiting, end, failed, job, lease, page, permanent, resolved};
use crate::attempts::commit::AttemptEnd;
use crate::items::DecisionRequest;

on_both! {
    each_state_is_found_again,
    key_named_twice_counts_once,
    payload_is_refreshed_and_the_backoff_kept,
    two_runs_find_the_same_new_item,
    reopened_item_starts_at_attempt_one,
    reopened_item_remembers_if_the_job_says_so,
    exhausted_item_restarts_if_the_job_says_so,
    absent_items_are_resolved,
    absence_resolves_only_if_the_job_says_so,
    item_that_another_discovery_finds_is_not_absent,
    absence_is_progress_of_the_run_that_queued,
    item_that_may_have_committed_is_not_absent,
}

async fn each_state_is_found_again(t: T) {
    t.attempt("awaiting", awaiting(), 0).await;
    t.attempt("awaiting-due", awaiting(), 1).await;
    t.attempt("done", resolved(), 2).await;
    t.attempt("stuck", permanent(), 3).await;
    t.attempt("given-up", permanent(), 4).await;
    t.store
        .items()
        .decide("wallet", "given-up", DecisionRequest::new(ManualDecision::Abandon, None, "ada"), at(4))
        .await
        .unwrap();
    t.attempt("backoff", failed(), 5).await;
    t.discover(&job(), &["running"], 6).await;
    t.claim_one(6).await;
    let later = Ok(Outcome::Snoozed { until: at(1_000) });
    let item = t.claim(9, 10).await.into_iter().find(|item| item.key == "awaiting").unwrap();
    t.end(&item, later, 10).await;
    t.discover(&job(), &["queued"], 10).await;

    let keys =
        ["awaiting", "awaiting-due", "backoff", "done", "given-up", "new", "queued", "running", "stuck"];
    let (_, sum) = t.discover(&job(), &keys, 11).await;
    expect![[r#"
        Discovered {
            found: 9,
            queued: 3,
            waiting: 4,
            over_cap: 0,
            manual: 2,
            absent: 0,
        }
    "#]]
    .assert_debug_eq(&sum);
    expect![[r#"
        awaiting retrying attempts=1 due=1000
        awaiting-due awaiting attempts=1 due=11
        backoff retrying attempts=1 due=15 flaky: try later
        done pending attempts=0 due=11
        given-up abandoned attempts=1 due=4 no-user: the user is gone
        new pending attempts=0 due=11
        queued pending attempts=0 due=10
        running running attempts=0 due=6
        stuck manual_required attempts=1 due=3 no-user: the user is gone
    "#]]
    .assert_eq(&t.items().await);
}

async fn key_named_twice_counts_once(t: T) {
    let (_, sum) = t.discover(&job(), &["a", "b", "a", "a"], 0).await;
    assert_eq!((sum.found, sum.queued, sum.waiting), (2, 2, 0));
}

async fn payload_is_refreshed_and_the_backoff_kept(t: T) {
    t.attempt("a", failed(), 0).await;
    let run = t.run(&job(), 5).await;
    let found = FoundItem { key: "a".to_owned(), payload: "{\"step\":2}".to_owned() };
    let sum = t.put(&run, &job(), &Page { items: vec![found], next: None }, 5).await;
    assert_eq!((sum.queued, sum.waiting), (0, 1));
    let item = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((item.payload.as_str(), item.due_at, item.attempts), ("{\"step\":2}", at(10), 1));
}

async fn two_runs_find_the_same_new_item(t: T) {
    let runs: Vec<_> = {
        let (a, b) = (t.run(&job(), 0).await, t.run(&job(), 0).await);
        vec![a, b]
    };
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let finders: Vec<_> = runs
        .into_iter()
        .map(|run| {
            let (t, keys) = (t.clone(), keys.clone());
            tokio::spawn(async move {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                t.put(&run, &job(), &page(&keys, None), 0).await
            })
        })
        .collect();
    let (mut queued, mut waiting) = (0, 0);
    for finder in finders {
        let sum = finder.await.unwrap();
        queued += sum.queued;
        waiting += sum.waiting;
    }
    assert_eq!((queued, waiting), (50, 50));
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, 50);
}

async fn reopened_item_starts_at_attempt_one(t: T) {
    t.attempt("a", failed(), 0).await;
    let item = t.claim_one(10).await;
    let before = item.idempotency_key();
    t.end(&item, resolved(), 10).await;
    let (_, sum) = t.discover(&job(), &["a"], 60).await;
    assert_eq!(sum.queued, 1);
    let again = t.claim_one(60).await;
    assert_eq!((again.attempts, again.series), (0, 2));
    assert!(again.run_id.is_some());
    assert_ne!(again.idempotency_key(), before);
}

async fn reopened_item_remembers_if_the_job_says_so(t: T) {
    let mut job = job();
    job.retry.forget_after = Some(SignedDuration::from_mins(10));
    t.attempt("a", resolved(), 0).await;
    t.discover(&job, &["a"], 599).await;
    let item = t.claim_one(599).await;
    assert_eq!(item.attempts, 1, "within ten minutes");
    t.end(&item, resolved(), 599).await;
    t.discover(&job, &["a"], 599 + 600).await;
    assert_eq!(t.claim_one(599 + 600).await.attempts, 0, "after ten minutes");
}

/// Only items that ran out of attempts start again; permanent failures, and items left to a person, stay
/// there.
async fn exhausted_item_restarts_if_the_job_says_so(t: T) {
    let mut renewing = job();
    renewing.retry.max_attempts = Some(1);
    renewing.retry.when_exhausted = WhenExhausted::NextRun;
    let keys = ["out", "left", "permanent"];
    t.discover(&renewing, &keys, 0).await;
    for item in t.claim(3, 0).await {
        let result = if item.key == "permanent" { permanent() } else { failed() };
        let ending = decide(&result, &item, &renewing.retry, at(1));
        t.store.attempts().end(Arc::new(AttemptEnd { ending, ..end(&item, &result, 1) })).await.unwrap();
    }
    let left = DecisionRequest::new(ManualDecision::Manual, Some("not again"), "ada");
    t.store.items().decide("wallet", "left", left, at(2)).await.unwrap();
    let (_, sum) = t.discover(&job(), &keys, 3).await;
    assert_eq!((sum.queued, sum.manual), (0, 3), "a job that does not say so");
    let (_, sum) = t.discover(&renewing, &keys, 4).await;
    assert_eq!((sum.queued, sum.manual), (1, 2));
    let item = t.claim_one(4).await;
    assert_eq!((item.key.as_str(), item.attempts, item.series), ("out", 0, 2));
    assert!(t.claim(9, 1_000).await.is_empty());
}

async fn absent_items_are_resolved(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    t.attempt("stuck", permanent(), 0).await;
    t.attempt("waits", failed(), 1).await;
    t.attempt("awaits", awaiting(), 2).await;
    t.attempt("found", failed(), 3).await;
    t.discover(&job, &["waits", "awaits", "found", "runs"], 4).await;
    t.claim_one(4).await;
    let (id, _) = t.discover(&job, &["found"], 5).await;
    expect![[r#"
        awaits resolved attempts=1 due=12
        found retrying attempts=1 due=13 flaky: try later
        runs running attempts=0 due=4
        stuck manual_required attempts=1 due=0 no-user: the user is gone
        waits resolved attempts=1 due=11 flaky: try later
    "#]]
    .assert_eq(&t.items().await);
    let item = t.store.items().get("wallet", "waits").await.unwrap().unwrap();
    assert_eq!(item.note.as_deref(), Some("no longer found"));
    assert_eq!(t.run_view(id).await.discovered.absent, 2);
}

async fn absence_resolves_only_if_the_job_says_so(t: T) {
    t.attempt("a", failed(), 0).await;
    t.discover(&job(), &[], 5).await;
    assert_eq!(t.items().await, "a retrying attempts=1 due=10 flaky: try later\n");
}

/// Two discoveries at the same time: the faster one may have seen an item before the slower one did.
async fn item_that_another_discovery_finds_is_not_absent(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    t.discover(&job, &["a", "b", "gone"], 0).await;
    t.store.jobs().trigger(&job.name, None, "ada", at(10)).await.unwrap();
    let first = t.store.runs().claim(&job.name, lease(1, 10)).await.unwrap().unwrap();
    t.store.jobs().trigger(&job.name, None, "ada", at(11)).await.unwrap();
    let second = t.store.runs().claim(&job.name, lease(2, 11)).await.unwrap().unwrap();
    t.put(&first, &job, &page(&["a", "b"], Some("p2")), 12).await;
    t.put(&second, &job, &page(&["a", "b"], Some("p2")), 13).await;
    t.complete(&first, &job, 14).await;
    expect![[r#"
        a pending attempts=0 due=0
        b pending attempts=0 due=0
        gone resolved attempts=0 due=0
    "#]]
    .assert_eq(&t.items().await);
    t.complete(&second, &job, 15).await;
    assert_eq!(t.due().await, 2);
}

async fn absence_is_progress_of_the_run_that_queued(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    let (first, _) = t.discover(&job, &["a", "b"], 0).await;
    let item = t.claim(1, 0).await.remove(0);
    t.end(&item, resolved(), 1).await;
    assert_eq!(t.run_view(first).await.state, "running");
    t.discover(&job, &[], 2).await;
    let run = t.run_view(first).await;
    assert_eq!(
        (run.state.as_str(), run.done),
        ("finished", 2),
        "or it would stand in its schedule's way for ever"
    );
}

/// An order was paid out, so it is not found any more, but its event is missing: the attempt is repeated
/// first.
async fn item_that_may_have_committed_is_not_absent(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    let unknown = || {
        let error = ErrorInfo::new(SQL_COMMIT, "no answer");
        Err(Failure::Throttled { retry_after: SignedDuration::from_secs(600), error })
    };
    t.attempt("unknown", unknown(), 0).await;
    t.attempt("refused", Err(Failure::transient("flaky", "try later")), 0).await;
    t.discover(&job, &["unknown", "refused", "left", "lost"], 1).await;
    let [left, _lost] = t.claim(2, 1).await.try_into().unwrap();
    let stopped = end(&left, &Err(Failure::Interrupted), 2);
    t.store.attempts().end(Arc::new(stopped)).await.unwrap();
    assert_eq!(t.store.items().recover(None, |_| 5, at(30)).await.unwrap().len(), 1);
    t.discover(&job, &[], 31).await;
    expect![[r#"
        left pending attempts=0 due=2
        lost pending attempts=0 due=30
        refused resolved attempts=1 due=10 flaky: try later
        unknown pending attempts=0 due=600 sql-commit: no answer
    "#]]
    .assert_eq(&t.items().await);

    for item in t.claim(9, 600).await {
        t.end(&item, awaiting(), 600).await;
    }
    t.discover(&job, &[], 601).await;
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item WHERE state = 'resolved'").await, 4);
}
