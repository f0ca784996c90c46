//! Claims of items: by which host, when, and how many.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::flow::{Flow, PerPrefix, Rate};
use domain::item::{Claimed, State};
use domain::job::JobSpec;
use expect_test::expect;
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{RUNNING, T, at, awaiting, config, failed, host, job, lease, permanent, resolved};
use crate::Store;
use crate::attempts::commit::Committed;

on_both! {
    claim_has_the_data_of_the_attempt,
    recovered_items_go_first_then_by_due_time,
    only_due_items_are_claimed,
    other_jobs_are_left_alone,
    epoch_only_grows,
    many_hosts_claim_each_item_once,
    rate_bounds_all_hosts_together,
    rate_holds_under_concurrency,
    concurrency_limits_all_hosts_together,
    full_prefix_does_not_delay_others,
    next_due_time_is_known,
    items_are_counted_by_displayed_state,
    items_are_listed_by_job_and_state,
}

async fn claim_has_the_data_of_the_attempt(t: T) {
    t.attempt("a", failed(), 0).await;
    let item = t.claim_one(12).await;
    let Claimed { attempts, series, epoch, .. } = item;
    assert_eq!((attempts, series, epoch), (1, 1, 2));
    assert_eq!((item.key.as_str(), item.payload.as_str(), item.job.as_str()), ("a", "{}", "wallet"));
    assert_eq!((item.first_attempt_at, item.last_attempt_at), (Some(at(0)), Some(at(0))));
    assert_eq!(item.last_error.unwrap().message, "try later");
    assert_eq!(item.claimed_at, at(12));
    let view = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((view.state, view.host), (State::Running, Some(host(1))));
}

async fn recovered_items_go_first_then_by_due_time(t: T) {
    t.discover(&job(), &["lost"], 5).await;
    t.claim_one(5).await;
    t.discover(&job(), &["third"], 20).await;
    t.discover(&job(), &["second"], 10).await;
    t.store.items().recover(None, |_| 5, at(30)).await.unwrap();
    t.discover(&job(), &["fourth"], 30).await;
    let keys: Vec<String> = t.claim(3, 40).await.into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["lost", "second", "third"]);
    assert_eq!(t.claim_one(40).await.key, "fourth");
}

async fn only_due_items_are_claimed(t: T) {
    t.attempt("a", failed(), 0).await;
    assert!(t.claim(9, 9).await.is_empty());
    assert_eq!(t.claim(9, 10).await.len(), 1);
    assert!(t.claim(9, 10).await.is_empty(), "it runs");
}

async fn other_jobs_are_left_alone(t: T) {
    let other = JobSpec { name: "other".parse().unwrap(), ..job() };
    t.discover(&job(), &["a"], 0).await;
    t.discover(&other, &["a", "b"], 0).await;
    assert_eq!(t.claim(9, 0).await.len(), 1);
    assert_eq!(t.store.items().claim(&other, lease(1, 0), 9).await.unwrap().len(), 2);
}

async fn epoch_only_grows(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let mut held = Vec::new();
    for now in [0, 20, 40] {
        let item = t.claim_one(now).await;
        held.push(item.epoch);
        t.store.items().recover(None, |_| 99, at(now + 16)).await.unwrap();
    }
    let item = t.claim_one(60).await;
    t.end(&item, resolved(), 60).await;
    t.discover(&job(), &["a"], 70).await;
    held.extend([item.epoch, t.claim_one(70).await.epoch]);
    assert_eq!(held, [1, 2, 3, 4, 5]);
}

/// Each host has its own store here, as on Postgres, where each host is a process.
async fn many_hosts_claim_each_item_once(t: T) {
    let keys: Vec<String> = (0..300).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let second = Arc::new(Store::open(&config(&t.url, &t.shop_url)).await.unwrap());
    let claimers: Vec<_> = (0..12_u128)
        .map(|number| {
            let store = if number % 2 == 0 { t.store.clone() } else { second.clone() };
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let more = store.items().claim(&job(), lease(number, 0), 7).await.unwrap();
                    if more.is_empty() {
                        return mine;
                    }
                    mine.extend(more.into_iter().map(|item| item.key));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    second.close().await;
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (300, 300));
    assert_eq!(t.running().await, 300);
}

fn rated(attempts_max: u32) -> JobSpec {
    JobSpec {
        flow: Flow {
            rate: Some(Rate { attempts_max, window: SignedDuration::from_secs(60) }),
            ..Flow::default()
        },
        ..job()
    }
}

async fn rate_bounds_all_hosts_together(t: T) {
    t.discover(&job(), &["a", "b", "c", "d", "e", "f", "g", "h"], 0).await;
    let claim = async |number, now, limit| {
        t.store.items().claim(&rated(5), lease(number, now), limit).await.unwrap().len()
    };
    assert_eq!(claim(1, 0, 3).await, 3);
    assert_eq!(claim(2, 1, 3).await, 2);
    assert_eq!(claim(1, 59, 3).await, 0);
    assert_eq!(claim(2, 60, 9).await, 3, "the next window");
}

async fn rate_holds_under_concurrency(t: T) {
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let claimers: Vec<_> = (0..10)
        .map(|number| {
            let t = t.clone();
            tokio::spawn(
                async move { t.store.items().claim(&rated(7), lease(number, 0), 3).await.unwrap().len() },
            )
        })
        .collect();
    let mut claimed = 0;
    for claimer in claimers {
        claimed += claimer.await.unwrap();
    }
    assert_eq!(claimed, 7);
}

/// Six tasks of two hosts claim items. After each claim, the database counts the running ones.
async fn concurrency_limits_all_hosts_together(t: T) {
    let keys: Vec<String> = (0..120).map(|n| format!("{}:{n:03}", ["eth", "btc", "ltc"][n % 3])).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let per_prefix = Some(PerPrefix { concurrency: 2, separator: ":".to_owned() });
    let flow = Flow { concurrency_total: Some(5), per_prefix, ..Flow::default() };
    let bounded = JobSpec { flow, ..job() };
    let second = Arc::new(Store::open(&config(&t.url, &t.shop_url)).await.unwrap());
    let claimers: Vec<_> = (0..6_u128)
        .map(|number| {
            let store = if number % 2 == 0 { t.store.clone() } else { second.clone() };
            let (t, job) = (t.clone(), bounded.clone());
            tokio::spawn(async move {
                let (mut done, mut most) = (0, 0);
                while t.due().await > 0 {
                    let claimed = store.items().claim(&job, lease(number, 0), 4).await.unwrap();
                    let running = t.running().await;
                    let alike = format!(
                        "SELECT COALESCE(MAX(n), 0) AS n FROM (SELECT COUNT(*) AS n FROM {RUNNING}
                        GROUP BY substr(item_key, 1, 3)) AS by_prefix"
                    );
                    assert!(running <= 5 && t.number(&alike).await <= 2, "{running} run");
                    most = most.max(running);
                    for item in claimed {
                        assert_eq!(t.end(&item, resolved(), 0).await, Committed::Applied);
                        done += 1;
                    }
                }
                (done, most)
            })
        })
        .collect();
    let (mut done, mut most) = (0, 0);
    for claimer in claimers {
        let (own, seen) = claimer.await.unwrap();
        (done, most) = (done + own, most.max(seen));
    }
    second.close().await;
    assert_eq!(done, 120);
    assert!(most >= 4, "they never worked at the same time: at most {most}");
}

async fn full_prefix_does_not_delay_others(t: T) {
    let keys: Vec<String> = (0..200).map(|n| format!("eth:{n:03}")).chain(["btc".to_owned()]).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let per_prefix = Some(PerPrefix { concurrency: 2, separator: ":".to_owned() });
    let bounded = JobSpec { flow: Flow { per_prefix, ..Flow::default() }, ..job() };
    let claim = async |limit| -> Vec<String> {
        let claimed = t.store.items().claim(&bounded, lease(1, 0), limit).await.unwrap();
        claimed.into_iter().map(|item| item.key).collect()
    };
    assert_eq!(claim(1).await, ["eth:000"]);
    assert_eq!(claim(8).await, ["eth:001", "btc"], "all of its 200 are due before");
    assert!(claim(8).await.is_empty());
    assert_eq!(t.store.items().running("wallet").await.unwrap(), 3);
}

async fn next_due_time_is_known(t: T) {
    assert_eq!(t.store.items().next_due(&job().name).await.unwrap(), None);
    t.attempt("a", failed(), 0).await;
    t.attempt("b", awaiting(), 5).await;
    assert_eq!(t.store.items().next_due(&job().name).await.unwrap(), Some(at(10)));
    t.claim_one(10).await;
    assert_eq!(t.store.items().next_due(&job().name).await.unwrap(), Some(at(15)));
}

async fn items_are_counted_by_displayed_state(t: T) {
    t.attempt("f1", failed(), 0).await;
    t.attempt("f2", failed(), 1).await;
    t.attempt("p", permanent(), 2).await;
    t.attempt("r", resolved(), 3).await;
    t.attempt("w", awaiting(), 4).await;
    t.discover(&job(), &["run1"], 5).await;
    t.claim_one(5).await;
    let item = t.claim_one(10).await;
    assert_eq!(item.key, "f1");
    t.discover(&job(), &["n1", "n2"], 10).await;
    let counts = t.store.items().counts().await.unwrap();
    let lines: String = counts.iter().map(|c| format!("{} {} {}\n", c.job, c.state, c.items)).collect();
    expect![[r#"
        wallet awaiting 1
        wallet manual_required 1
        wallet pending 2
        wallet resolved 1
        wallet retrying 1
        wallet running 2
    "#]]
    .assert_eq(&lines);
}

async fn items_are_listed_by_job_and_state(t: T) {
    t.attempt("a", failed(), 0).await;
    t.attempt("b", resolved(), 1).await;
    let keys = async |job, state, limit| -> Vec<String> {
        let items = t.store.items().list(job, state, limit).await.unwrap();
        items.into_iter().map(|item| item.key).collect()
    };
    assert_eq!(keys(None, None, 9).await, ["b", "a"], "what changed last comes first");
    assert_eq!(keys(None, None, 1).await, ["b"]);
    assert_eq!(keys(Some("wallet"), Some(State::Scheduled), 9).await, ["a"]);
    assert!(keys(Some("other"), None, 9).await.is_empty());
    assert!(t.store.items().get("wallet", "c").await.unwrap().is_none());
}
