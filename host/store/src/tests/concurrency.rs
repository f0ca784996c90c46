//! Hosts, discoveries, people and recovery that work at the same time, on two connections pools: what holds after
//! each step alone holds at every moment, no transaction fails, and nothing is claimed or ended twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use domain::failure::Failure;
use domain::id::ItemId;
use domain::item::{Claimed, ManualDecision};
use domain::job::JobSpec;
use test_support::on_both;

use super::conservation::{Dice, QUESTIONS};
use super::support::{T, at, awaiting, config, end, failed, host, job, lease, page, permanent, resolved};
use crate::attempts::commit::Committed;
use crate::items::DecisionRequest;
use crate::{Store, StoreError};

on_both! {
    concurrent_work_keeps_every_promise,
}

const KEYS: u64 = 60;
const STEPS: u32 = 150;

fn key(dice: &mut Dice) -> String {
    format!("k{:02}", dice.below(KEYS))
}

/// The records of all tasks.
#[derive(Default)]
struct Ledger {
    clock: AtomicI64,
    claimed: Mutex<BTreeSet<(ItemId, i64)>>,
    ended: Mutex<BTreeMap<(ItemId, i64), u32>>,
}

impl Ledger {
    /// Time passes with each step, so that leases lapse while other tasks hold them.
    fn now(&self) -> i64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn claim(&self, item: &Claimed) {
        let new = self.claimed.lock().unwrap().insert((item.id, item.epoch));
        assert!(new, "{} was handed out twice at epoch {}", item.key, item.epoch);
    }

    fn end(&self, item: &Claimed) {
        *self.ended.lock().unwrap().entry((item.id, item.epoch)).or_default() += 1;
    }
}

async fn concurrent_work_keeps_every_promise(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    let (job, ledger) = (Arc::new(job), Arc::new(Ledger::default()));
    let second = Arc::new(Store::open(&config(&t.url, &t.shop_url)).await.unwrap());
    let mut tasks = Vec::new();
    for number in 1..=3_u64 {
        let store = if number % 2 == 0 { t.store.clone() } else { second.clone() };
        tasks.push(tokio::spawn(works(store, job.clone(), ledger.clone(), number)));
    }
    tasks.push(tokio::spawn(discovers(second.clone(), job.clone(), ledger.clone(), 4)));
    tasks.push(tokio::spawn(discovers(t.store.clone(), job.clone(), ledger.clone(), 5)));
    tasks.push(tokio::spawn(decides(second.clone(), ledger.clone())));
    tasks.push(tokio::spawn(recovers(t.store.clone(), ledger.clone())));
    while tasks.iter().any(|task| !task.is_finished()) {
        check(&t, "while they work").await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    while !second.items().recover(None, |_| 3, at(1_000_000)).await.unwrap().is_empty() {}
    check(&t, "after recovery").await;
    drain(&t, &job, &ledger).await;
    check(&t, "after the rest").await;
    second.close().await;
    let ended = ledger.ended.lock().unwrap();
    assert!(ended.len() > 50, "too little happened: {} ends", ended.len());
    assert!(ended.values().all(|times| *times == 1), "an end was applied twice");
}

async fn check(t: &T, when: &str) {
    for question in QUESTIONS {
        assert_eq!(t.number(question).await, 0, "{when}: {question}");
    }
}

/// Claims items and ends some of them, in any order, late or never.
async fn works(store: Arc<Store>, job: Arc<JobSpec>, ledger: Arc<Ledger>, number: u64) {
    let mut dice = Dice(0x5EED_0100 + number);
    let mut held: Vec<Claimed> = Vec::new();
    for _ in 0..STEPS {
        let now = ledger.now();
        match dice.below(5) {
            0 | 1 => {
                let limit = u32::try_from(dice.below(6)).unwrap();
                let claimed = store.items().claim(&job, lease(u128::from(number), now), limit).await.unwrap();
                claimed.iter().for_each(|item| ledger.claim(item));
                held.extend(claimed);
            }
            2 => drop(store.items().renew(lease(u128::from(number), now)).await.unwrap()),
            _ => end_some(&store, &mut held, &ledger, &mut dice, now).await,
        }
    }
}

/// Sends several ends at once, so that they share a transaction.
async fn end_some(store: &Store, held: &mut Vec<Claimed>, ledger: &Ledger, dice: &mut Dice, now: i64) {
    let mut sent = Vec::new();
    for _ in 0..dice.below(4) {
        if held.is_empty() {
            break;
        }
        let item = held.remove(usize::try_from(dice.below(held.len() as u64)).unwrap());
        let result = match dice.below(6) {
            0 => failed(),
            1 => awaiting(),
            2 => permanent(),
            3 => Err(Failure::Interrupted),
            _ => resolved(),
        };
        // Some hosts forget an item: its lease lapses.
        if dice.below(8) > 0 {
            sent.push((item.clone(), Arc::new(end(&item, &result, now))));
        }
    }
    let ends = sent.iter().map(|(_, end)| store.attempts().end(end.clone()));
    let committed = futures_util::future::join_all(ends).await;
    for ((item, _), committed) in sent.iter().zip(committed) {
        if committed.unwrap() == Committed::Applied {
            ledger.end(item);
        }
    }
}

async fn discovers(store: Arc<Store>, job: Arc<JobSpec>, ledger: Arc<Ledger>, number: u64) {
    let mut dice = Dice(0x5EED_0200 + number);
    for _ in 0..STEPS / 5 {
        let now = ledger.now();
        store.jobs().trigger(&job.name, None, "ada", at(now)).await.unwrap();
        let Some(run) = store.runs().claim(&job.name, lease(u128::from(number), now)).await.unwrap() else {
            continue;
        };
        for last in [false, false, true] {
            let keys: Vec<String> = (0..dice.below(12)).map(|_| key(&mut dice)).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let page = page(&keys, (!last).then_some("more"));
            store.runs().put_page(&run, &job, &page, None, at(ledger.now())).await.unwrap();
        }
    }
}

async fn decides(store: Arc<Store>, ledger: Arc<Ledger>) {
    let mut dice = Dice(0x5EED_0300);
    let all =
        [ManualDecision::Retry, ManualDecision::Resolve, ManualDecision::Manual, ManualDecision::Abandon];
    for _ in 0..STEPS {
        let decision = all[usize::try_from(dice.below(4)).unwrap()];
        let request = DecisionRequest::new(decision, None, "ada");
        match store.items().decide("wallet", &key(&mut dice), request, at(ledger.now())).await {
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

async fn recovers(store: Arc<Store>, ledger: Arc<Ledger>) {
    let mut dice = Dice(0x5EED_0400);
    for _ in 0..STEPS {
        let former = (dice.below(10) == 0).then(|| host(u128::from(dice.below(3) + 1)));
        store.items().recover(former, |_| 3, at(ledger.now())).await.unwrap();
        store.items().fold_counters().await.unwrap();
    }
}

/// Everything that is open can be claimed and ended.
async fn drain(t: &T, job: &JobSpec, ledger: &Ledger) {
    loop {
        let claimed = t.store.items().claim(job, lease(9, 2_000_000), 100).await.unwrap();
        if claimed.is_empty() {
            break;
        }
        for item in claimed {
            ledger.claim(&item);
            assert_eq!(t.end(&item, resolved(), 2_000_000).await, Committed::Applied);
            ledger.end(&item);
        }
    }
    assert_eq!(t.due().await, 0);
    assert_eq!(t.running().await, 0);
}
