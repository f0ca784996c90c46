//! A run's discovery: held by one host and committed page by page; and the run's progress to its end.

use domain::failure::ErrorInfo;
use domain::id::RunId;
use domain::item::ManualDecision;
use domain::run::ClaimedRun;
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, awaiting, failed, host, job, lease, page, permanent, resolved};
use crate::attempts::commit::Committed;
use crate::items::DecisionRequest;

on_both! {
    discovery_has_one_holder,
    many_hosts_claim_a_discovery_once,
    renewed_discovery_stays,
    cursor_moves_with_its_page,
    discovery_continues_at_the_cursor_after_a_crash,
    shutdown_hands_over_at_once,
    restarted_host_gets_its_discovery_back,
    stale_holder_changes_nothing,
    cap_counts_over_all_pages,
    next_run_takes_what_was_over_the_cap,
    empty_discovery_finishes_the_run,
    last_page_ends_the_discovery,
    last_first_attempt_finishes_the_run,
    result_lists_the_outcome_of_each_item,
    progress_is_within_its_total_whatever_happens,
    an_item_counts_for_the_run_that_queued_it,
    attempts_may_end_before_the_discovery,
    later_attempts_do_not_count,
    failed_discovery_keeps_what_it_queued,
    summary_says_why_items_were_skipped,
    discovery_opens_up_to_a_bound,
    refused_page_is_known_after_a_crash,
}

async fn discovery_has_one_holder(t: T) {
    let run = t.run(&job(), 0).await;
    assert_eq!((run.epoch, run.trigger.as_str()), (1, "ada"));
    assert!(t.store.runs().claim(&job().name, lease(2, 14)).await.unwrap().is_none());
    let other = "other".parse().unwrap();
    assert!(t.store.runs().claim(&other, lease(2, 99)).await.unwrap().is_none());
    let again = t.store.runs().claim(&job().name, lease(2, 16)).await.unwrap().unwrap();
    assert_eq!((again.id, again.epoch), (run.id, 2));
    assert_ne!(again.attempt_id, run.attempt_id);
}

async fn many_hosts_claim_a_discovery_once(t: T) {
    t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    let claims: Vec<_> = (0..16)
        .map(|number| {
            let t = t.clone();
            tokio::spawn(async move { t.store.runs().claim(&job().name, lease(number, 0)).await.unwrap() })
        })
        .collect();
    let mut held = 0;
    for claim in claims {
        held += usize::from(claim.await.unwrap().is_some());
    }
    assert_eq!(held, 1);
}

async fn renewed_discovery_stays(t: T) {
    let run = t.run(&job(), 0).await;
    t.store.items().renew(lease(1, 10)).await.unwrap();
    assert!(t.store.runs().claim(&job().name, lease(2, 20)).await.unwrap().is_none());
    t.complete(&run, &job(), 20).await;
}

async fn cursor_moves_with_its_page(t: T) {
    let run = t.run(&job(), 0).await;
    assert_eq!(t.store.runs().page_cursor(run.id).await.unwrap(), None);
    t.put(&run, &job(), &page(&["a", "b"], Some("after b")), 0).await;
    assert_eq!(t.store.runs().page_cursor(run.id).await.unwrap().as_deref(), Some("after b"));
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, 2);
}

async fn discovery_continues_at_the_cursor_after_a_crash(t: T) {
    let job = job();
    let dead = t.run(&job, 0).await;
    t.put(&dead, &job, &page(&["a", "b"], Some("p2")), 0).await;

    let next = t.store.runs().claim(&job.name, lease(2, 20)).await.unwrap().unwrap();
    assert_eq!(t.store.runs().page_cursor(next.id).await.unwrap().as_deref(), Some("p2"));
    // The page that the dead host was working on comes again, with one more item.
    t.put(&next, &job, &page(&["b", "c"], None), 21).await;
    let run = t.run_view(next.id).await;
    assert_eq!((run.discovered.queued, run.discovered.waiting), (3, 1));
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, 3);
}

async fn shutdown_hands_over_at_once(t: T) {
    let run = t.run(&job(), 0).await;
    t.put(&run, &job(), &page(&["a"], Some("p2")), 0).await;
    t.store.runs().release(&run).await.unwrap();
    let next = t.store.runs().claim(&job().name, lease(2, 1)).await.unwrap().unwrap();
    assert_eq!((next.id, next.epoch), (run.id, 2));
    assert_eq!(t.store.runs().page_cursor(next.id).await.unwrap().as_deref(), Some("p2"));
}

async fn restarted_host_gets_its_discovery_back(t: T) {
    let run = t.run(&job(), 0).await;
    t.store.items().recover(Some(host(2)), |_| 5, at(1)).await.unwrap();
    assert!(t.store.runs().claim(&job().name, lease(2, 1)).await.unwrap().is_none(), "host 1 lives");
    t.store.items().recover(Some(host(1)), |_| 5, at(1)).await.unwrap();
    let next = t.store.runs().claim(&job().name, lease(1, 1)).await.unwrap().unwrap();
    assert_eq!(next.id, run.id);
}

async fn stale_holder_changes_nothing(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    t.attempt("old", failed(), 0).await;
    let stale = t.run(&job, 100).await;
    t.put(&stale, &job, &page(&["a"], Some("p2")), 100).await;
    let holder = t.store.runs().claim(&job.name, lease(2, 200)).await.unwrap().unwrap();
    assert_eq!(holder.id, stale.id);

    let before = t.everything().await;
    let forged = ClaimedRun { epoch: holder.epoch, ..stale.clone() };
    let guessed = ClaimedRun { attempt_id: holder.attempt_id, ..stale.clone() };
    for run in [&stale, &forged, &guessed] {
        let (committed, sum) =
            t.store.runs().put_page(run, &job, &page(&["a", "b"], None), None, at(201)).await.unwrap();
        assert_eq!((committed, sum), (Committed::Stale, Default::default()));
        let gone = ErrorInfo::new("x", "y");
        assert_eq!(t.store.runs().fail_discovery(run, &gone, at(201)).await.unwrap(), Committed::Stale);
        t.store.runs().release(run).await.unwrap();
    }
    assert_eq!(t.everything().await, before);
    t.complete(&holder, &job, 202).await;
    let (again, _) = t.store.runs().put_page(&holder, &job, &page(&[], None), None, at(203)).await.unwrap();
    assert_eq!(again, Committed::Stale);
}

async fn cap_counts_over_all_pages(t: T) {
    let mut job = job();
    job.flow.items_per_run_max = Some(10);
    let keys: Vec<String> = (0..18).map(|n| format!("k{n:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let run = t.run(&job, 0).await;
    let mut sums = Vec::new();
    for part in keys.chunks(6) {
        let sum = t.put(&run, &job, &page(part, Some("more")), 0).await;
        sums.push((sum.found, sum.queued, sum.over_cap));
    }
    assert_eq!(sums, [(6, 6, 0), (6, 4, 2), (6, 0, 6)]);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item").await, 10, "what is over the cap is not stored");
}

async fn next_run_takes_what_was_over_the_cap(t: T) {
    let mut job = job();
    job.flow.items_per_run_max = Some(2);
    let all = ["a", "b", "c", "d", "e"];
    let mut queued = Vec::new();
    for now in [0, 60, 120, 180] {
        queued.push(t.discover(&job, &all, now).await.1.queued);
        for item in t.claim(10, now).await {
            t.end(&item, Ok(domain::outcome::Outcome::Snoozed { until: at(9_999) }), now).await;
        }
    }
    assert_eq!(queued, [2, 2, 1, 0]);
}

async fn empty_discovery_finishes_the_run(t: T) {
    let (run, _) = t.discover(&job(), &[], 3).await;
    let run = t.run_view(run).await;
    assert_eq!((run.state.as_str(), run.finished_at), ("finished", Some(at(3))));
}

/// The host may miss the result of the last page's commit, or die before that: the discovery does not start
/// again.
async fn last_page_ends_the_discovery(t: T) {
    let run = t.run(&job(), 0).await;
    t.put(&run, &job(), &page(&["a"], None), 0).await;
    let item = t.claim_one(0).await;
    t.end(&item, resolved(), 1).await;
    t.store.runs().release(&run).await.unwrap();
    assert!(t.store.runs().claim(&job().name, lease(2, 999)).await.unwrap().is_none());
    assert_eq!(t.run_view(run.id).await.state, "finished");
}

async fn last_first_attempt_finishes_the_run(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b", "c"], 0).await;
    assert_eq!(t.run_view(id).await.state, "running");
    let items = t.claim(3, 1).await;
    t.end(&items[0], resolved(), 1).await;
    t.end(&items[1], failed(), 2).await;
    let run = t.run_view(id).await;
    assert_eq!((run.state.as_str(), run.done, run.failed, run.finished_at), ("running", 2, 1, None));
    t.end(&items[2], awaiting(), 3).await;
    let run = t.run_view(id).await;
    assert_eq!((run.state.as_str(), run.done, run.failed), ("finished", 3, 1));
    assert_eq!(run.finished_at, Some(at(3)));
}

async fn attempts_may_end_before_the_discovery(t: T) {
    let run = t.run(&job(), 0).await;
    t.put(&run, &job(), &page(&["a"], Some("p2")), 0).await;
    let item = t.claim_one(0).await;
    t.end(&item, resolved(), 1).await;
    assert_eq!(t.run_view(run.id).await.state, "discovering");
    t.put(&run, &job(), &page(&[], None), 2).await;
    assert_eq!(t.run_view(run.id).await.state, "finished");
}

async fn later_attempts_do_not_count(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b"], 0).await;
    let items = t.claim(1, 0).await;
    t.end(&items[0], failed(), 0).await;
    // The second attempt of one item is due before the first attempt of b.
    let items = t.claim(2, 10).await;
    let second = items.iter().find(|item| item.attempts == 1).unwrap();
    assert_eq!(second.run_id, None);
    t.end(second, failed(), 10).await;
    let run = t.run_view(id).await;
    assert_eq!((run.state.as_str(), run.done, run.failed), ("running", 1, 1));
}

/// Over all attempts of a run's items: a successful retry is a success, and a manually reopened item is open.
async fn result_lists_the_outcome_of_each_item(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b", "c"], 0).await;
    let result = async || {
        let result = t.store.runs().result(id).await.unwrap().unwrap();
        let last = result.last.as_ref().map(|last| format!("{} {}", last.key, last.success));
        format!(
            "{} of {}: {} + {}, {}",
            result.current(),
            result.total,
            result.success,
            result.failed,
            last.unwrap_or_default()
        )
    };
    assert_eq!(result().await, "0 of 3: 0 + 0, ");
    let items = t.claim(3, 0).await;
    t.end(&items[0], failed(), 1).await;
    t.end(&items[1], resolved(), 2).await;
    t.end(&items[2], permanent(), 3).await;
    assert_eq!(result().await, "3 of 3: 1 + 1, c false", "a is tried again");
    let failures = t.store.runs().failures(id).await.unwrap();
    let failures: Vec<_> =
        failures.iter().map(|item| (item.key.as_str(), item.attempts, item.code.as_str())).collect();
    assert_eq!(failures, [("c", 1, "no-user")]);
    let again = t.claim_one(20).await;
    t.end(&again, resolved(), 21).await;
    assert_eq!(result().await, "3 of 3: 2 + 1, a true");
    let decided = DecisionRequest::new(ManualDecision::Retry, None, "ada");
    t.store.items().decide(job().name.as_str(), "c", decided, at(30)).await.unwrap();
    let again = t.claim_one(31).await;
    t.end(&again, failed(), 32).await;
    assert_eq!(result().await, "3 of 3: 2 + 0, a true");
    assert!(t.store.runs().failures(id).await.unwrap().is_empty());
    let decided = DecisionRequest::new(ManualDecision::Resolve, None, "ada");
    t.store.items().decide(job().name.as_str(), "c", decided, at(40)).await.unwrap();
    assert_eq!(result().await, "3 of 3: 3 + 0, c true", "a person's word counts");
    assert_eq!(t.store.runs().result(RunId::new(at(0))).await.unwrap(), None);
}

/// Progress of a run as shown by the page, the API and the command line: done, total, successes and failures.
async fn progress(t: &T, id: RunId) -> (u32, u32, u32, u32) {
    let (view, result) = (t.run_view(id).await, t.store.runs().result(id).await.unwrap().unwrap());
    assert_eq!((view.done, view.discovered.queued), (result.current(), result.total));
    assert!(result.current() <= result.total, "{result:?}");
    assert!(result.success + result.failed <= result.total, "{result:?}");
    assert!(view.state != "finished" || result.current() == result.total, "{view:?}");
    (result.current(), result.total, result.success, result.failed)
}

/// Items that several runs find, or that are retried, started again, decided manually, or no longer found.
async fn progress_is_within_its_total_whatever_happens(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    let (first, _) = t.discover(&job, &["a", "b", "c", "d", "e"], 0).await;
    let items = t.claim(3, 0).await;
    t.end(&items[0], failed(), 1).await;
    t.end(&items[1], resolved(), 2).await;
    t.end(&items[2], permanent(), 3).await;
    assert_eq!(progress(&t, first).await, (3, 5, 1, 1));
    // Finds items in their backoff or before their first attempt, starts one again, and no longer finds one.
    let keys: Vec<String> =
        items.iter().map(|item| item.key.clone()).chain(["d".to_owned(), "x".to_owned()]).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (second, sum) = t.discover(&job, &keys, 5).await;
    assert_eq!((sum.queued, sum.absent), (2, 1), "{sum:?}");
    assert_eq!(progress(&t, first).await.0, 4);
    assert_eq!(progress(&t, second).await, (0, 2, 0, 0));
    for now in [20, 40, 60] {
        for item in t.claim(10, now).await {
            let result = if now < 60 { failed() } else { resolved() };
            t.end(&item, result, now).await;
            progress(&t, first).await;
            progress(&t, second).await;
        }
    }
    assert_eq!(progress(&t, first).await.0, 5);
    assert_eq!(progress(&t, second).await, (2, 2, 2, 0));
    let decided = DecisionRequest::new(ManualDecision::Retry, None, "ada");
    t.store.items().decide(job.name.as_str(), "x", decided, at(70)).await.unwrap();
    assert_eq!(progress(&t, second).await.0, 2);
    let (third, _) = t.discover(&job, &["a", "b", "c", "d", "e", "x"], 80).await;
    t.store
        .items()
        .decide(job.name.as_str(), "a", DecisionRequest::new(ManualDecision::Resolve, None, "ada"), at(81))
        .await
        .unwrap();
    t.store
        .items()
        .decide(job.name.as_str(), "a", DecisionRequest::new(ManualDecision::Retry, None, "ada"), at(82))
        .await
        .unwrap();
    for item in t.claim(10, 90).await {
        t.end(&item, awaiting(), 91).await;
        progress(&t, third).await;
    }
    for run in [first, second, third] {
        assert_eq!(t.run_view(run).await.state, "finished");
        progress(&t, run).await;
    }
}

/// A run that finds an item queued by another run does not count its attempts.
async fn an_item_counts_for_the_run_that_queued_it(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    let (first, _) = t.discover(&job, &["a", "b", "c"], 0).await;
    let (second, sum) = t.discover(&job, &["a", "b", "c", "d"], 1).await;
    assert_eq!(sum.queued, 1);
    for item in t.claim(10, 2).await {
        t.end(&item, resolved(), 3).await;
    }
    assert_eq!(progress(&t, first).await, (3, 3, 3, 0));
    assert_eq!(progress(&t, second).await, (1, 1, 1, 0));
}

async fn failed_discovery_keeps_what_it_queued(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    t.attempt("old", failed(), 0).await;
    let run = t.run(&job, 100).await;
    t.put(&run, &job, &page(&["a"], Some("p2")), 100).await;
    let away = ErrorInfo::new("no-database", "shop is away");
    assert_eq!(t.store.runs().fail_discovery(&run, &away, at(101)).await.unwrap(), Committed::Applied);
    let view = t.run_view(run.id).await;
    assert_eq!((view.state.as_str(), view.finished_at), ("failed", Some(at(101))));
    assert_eq!(view.error, Some(ErrorInfo::new("no-database", "shop is away")));
    expect![[r#"
        a pending attempts=0 due=100
        old retrying attempts=1 due=10 flaky: try later
    "#]]
    .assert_eq(&t.items().await);
    assert_eq!(t.claim(10, 101).await.len(), 2);
}

async fn summary_says_why_items_were_skipped(t: T) {
    let mut job = job();
    job.flow.items_per_run_max = Some(2);
    job.resolve_when_absent = true;
    t.attempt("gone", failed(), 0).await;
    t.attempt("later", failed(), 1).await;
    t.attempt("stuck", permanent(), 2).await;
    let (id, _) = t.discover(&job, &["later", "stuck", "a", "b", "c"], 5).await;
    let item = t.claim(1, 5).await.remove(0);
    t.end(&item, resolved(), 6).await;
    expect![
        "found 5, attempted 1 of 2, skipped 3 (1 waiting, 1 over the cap, 1 for a person), 1 no longer found"
    ]
    .assert_eq(&t.run_view(id).await.summary());
}

/// New items are opened up to the limit; open ones are refreshed.
async fn discovery_opens_up_to_a_bound(t: T) {
    let mut job = job();
    job.limits.items_open = 3;
    t.attempt("done", resolved(), 0).await;
    t.discover(&job, &["a", "b"], 1).await;
    let run = t.run(&job, 2).await;
    let sum = t.put(&run, &job, &page(&["c", "d", "done"], Some("2")), 2).await;
    assert_eq!((sum.found, sum.queued, sum.over_cap), (3, 1, 2));
    let mut last = page(&["e", "a"], None);
    last.items[1].payload = "{\"new\":1}".to_owned();
    let sum = t.put(&run, &job, &last, 3).await;
    assert_eq!((sum.found, sum.queued, sum.over_cap), (2, 0, 1));
    assert_eq!(t.due().await, 3);
    assert_eq!(t.store.items().get("wallet", "a").await.unwrap().unwrap().payload, "{\"new\":1}");
    let view = t.run_view(run.id).await;
    assert_eq!((view.state.as_str(), view.finished_at), ("failed", Some(at(3))));
    let error = view.error.unwrap();
    assert_eq!(error.code, "too-many-open-items");
    assert!(error.message.contains("3 open items, so 1 new items"), "{}", error.message);

    for item in t.claim(10, 4).await {
        t.end(&item, resolved(), 4).await;
    }
    let (id, sum) = t.discover(&job, &["d", "e"], 5).await;
    assert_eq!((sum.queued, t.run_view(id).await.error), (2, None), "there is room again");
}

async fn refused_page_is_known_after_a_crash(t: T) {
    let mut job = job();
    job.limits.items_open = 1;
    let run = t.run(&job, 0).await;
    t.put(&run, &job, &page(&["a", "b"], Some("2")), 0).await;
    let run = t.store.runs().claim(&job.name, lease(2, 100)).await.unwrap().unwrap();
    t.put(&run, &job, &page(&["a"], None), 101).await;
    let view = t.run_view(run.id).await;
    assert_eq!((view.state.as_str(), view.error.unwrap().code.as_str()), ("failed", "too-many-open-items"));
}
