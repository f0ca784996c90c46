//! Random sequences of actions of hosts, people and crashes: no item is lost or duplicated.

use test_support::on_both;

use crate::items::DecisionRequest;
use std::collections::BTreeSet;

use domain::failure::Failure;
use domain::item::{Claimed, ManualDecision};
use domain::job::JobSpec;
use domain::outcome::Outcome;
use domain::run::ClaimedRun;

use super::support::{T, at, awaiting, end, failed, job, lease, page, permanent, resolved};
use crate::StoreError;
use crate::attempts::commit::Committed;
use crate::attempts::kv::KvWrite;

on_both! {
    items_are_conserved,
    discovered_items_are_conserved_when_the_job_resolves_absent_ones,
}

/// The number of rows of each of these queries must be 0 at every moment.
const IN_NOT_ONE_PLACE: &str = "SELECT COUNT(*) AS n FROM item LEFT JOIN (SELECT id, COUNT(*) AS places FROM (
        SELECT item_id AS id FROM due
        UNION ALL SELECT held.id FROM claimed_item JOIN item AS held ON held.id = item_id AND held.epoch = claimed_item.epoch
    ) AS place GROUP BY id) AS placed ON placed.id = item.id
    WHERE COALESCE(places, 0) <> CASE WHEN state IN ('scheduled', 'awaiting') THEN 1 ELSE 0 END";
const PLACE_WITHOUT_ITEM: &str = "SELECT COUNT(*) AS n FROM due LEFT JOIN item ON item.id = due.item_id
    AND item.job = due.job AND item.priority = due.priority AND item.due_at_ms = due.due_at_ms WHERE item.id IS NULL";
const CLAIM_OF_THE_FUTURE: &str = "SELECT COUNT(*) AS n FROM claimed_item
    LEFT JOIN item ON item.id = item_id WHERE item.id IS NULL OR item.epoch < claimed_item.epoch";
const OPEN_ITEMS_WRONG: &str = "SELECT COUNT(*) AS n FROM claim WHERE open_items <> (SELECT COUNT(*)
    FROM claimed_item JOIN item ON item.id = item_id AND item.epoch = claimed_item.epoch WHERE claim_id = claim.id)";
const PARKED_WRONG: &str =
    "SELECT (SELECT COUNT(*) FROM item WHERE state IN ('manual_required', 'abandoned'))
    + (SELECT COUNT(*) FROM parked) - 2 * (SELECT COUNT(*) FROM parked JOIN item
        ON item.id = parked.item_id AND item.job = parked.job AND item.state = parked.state) AS n";
const COUNTS_WRONG: &str = "SELECT COUNT(*) AS n FROM (SELECT job, class, SUM(items) AS items FROM (
        SELECT job, class, items FROM item_count
        UNION ALL SELECT job, CASE WHEN state = 'scheduled' AND attempts = 0 THEN 'pending'
            WHEN state = 'scheduled' THEN 'retrying' ELSE state END, -1 FROM item) AS counted
    GROUP BY job, class) AS sums WHERE items <> 0";
const DOUBLE: &str = "SELECT COUNT(*) AS n FROM (SELECT job, item_key FROM item GROUP BY job, item_key HAVING COUNT(*) > 1) AS d";
/// Each epoch before the present one has exactly one attempt.
const EPOCHS_WITHOUT_ATTEMPT: &str =
    "SELECT COUNT(*) AS n FROM item WHERE epoch - 1 <> (SELECT COUNT(*) FROM attempt
    WHERE attempt.item_id = item.id AND attempt.epoch < item.epoch)";
const CRASHES_WITHOUT_LOSS: &str =
    "SELECT COUNT(*) AS n FROM item WHERE crashes > (SELECT COUNT(*) FROM attempt
    WHERE attempt.item_id = item.id AND verdict = 'lost')";
pub const QUESTIONS: [&str; 10] = [
    IN_NOT_ONE_PLACE,
    PLACE_WITHOUT_ITEM,
    CLAIM_OF_THE_FUTURE,
    OPEN_ITEMS_WRONG,
    PARKED_WRONG,
    COUNTS_WRONG,
    DOUBLE,
    EPOCHS_WITHOUT_ATTEMPT,
    CRASHES_WITHOUT_LOSS,
    RUNS_OUT_OF_STEP,
];
/// A run waits for exactly those of its queued items whose end it has not counted.
const RUNS_OUT_OF_STEP: &str = "SELECT COUNT(*) AS n FROM run
    WHERE queued - done <> (SELECT COUNT(*) FROM item WHERE item.run_id = run.id)
        OR (state = 'finished') <> (state <> 'failed' AND discovered_at_ms IS NOT NULL AND done >= queued)";

const STEPS: u32 = 500;
const HOSTS: u64 = 3;

/// Pseudo-random numbers that are the same each time (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The claims that hosts believe they hold; some of them are stale.
struct World {
    t: T,
    job: JobSpec,
    dice: Dice,
    now: i64,
    held: Vec<Claimed>,
    discoveries: Vec<ClaimedRun>,
    known: BTreeSet<String>,
    /// Item and epoch of each applied end.
    applied: BTreeSet<(String, i64)>,
}

impl World {
    async fn step(&mut self) {
        self.now += i64::try_from(self.dice.below(4)).unwrap();
        let (now, host) = (self.now, u128::from(self.dice.below(HOSTS) + 1));
        match self.dice.below(12) {
            0 => drop(self.t.store.jobs().trigger(&self.job.name, None, "ada", at(now)).await.unwrap()),
            1 => {
                let run = self.t.store.runs().claim(&self.job.name, lease(host, now)).await.unwrap();
                self.discoveries.extend(run);
            }
            2 | 3 => self.page().await,
            4..=6 => {
                let limit = u32::try_from(self.dice.below(5)).unwrap();
                self.held
                    .extend(self.t.store.items().claim(&self.job, lease(host, now), limit).await.unwrap());
            }
            7..=9 => self.end().await,
            10 => self.decide().await,
            _ => self.crash_or_renew(host).await,
        }
    }

    async fn page(&mut self) {
        if self.discoveries.is_empty() {
            return;
        }
        let at_index = usize::try_from(self.dice.below(self.discoveries.len() as u64)).unwrap();
        let run = self.discoveries[at_index].clone();
        let keys: Vec<String> =
            (0..self.dice.below(8)).map(|_| format!("k{:02}", self.dice.below(40))).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let last = self.dice.below(2) == 0;
        let page = page(&names, (!last).then_some("more"));
        let (committed, _) =
            self.t.store.runs().put_page(&run, &self.job, &page, None, at(self.now)).await.unwrap();
        if committed == Committed::Applied {
            self.known.extend(keys);
        }
        // Sometimes the last page is sent again.
        if last && self.dice.below(3) > 0 {
            self.discoveries.remove(at_index);
        }
    }

    async fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at_index = usize::try_from(self.dice.below(self.held.len() as u64)).unwrap();
        let item = self.held[at_index].clone();
        let result = match self.dice.below(6) {
            0 => failed(),
            1 => awaiting(),
            2 => permanent(),
            3 => Err(Failure::Interrupted),
            4 => Ok(Outcome::Snoozed { until: at(self.now + 5) }),
            _ => resolved(),
        };
        let mut end = end(&item, &result, self.now);
        let (key, value) = (item.attempt_id.to_string() + &item.key, Some(vec![1]));
        end.effects.kv.push(KvWrite { bucket: "b".to_owned(), key, value, ..KvWrite::default() });
        let committed = self.t.store.attempts().end(std::sync::Arc::new(end)).await.unwrap();
        if committed == Committed::Applied {
            self.applied.insert((item.key, item.epoch));
        }
        // Sometimes the end is sent again.
        if self.dice.below(4) > 0 {
            self.held.remove(at_index);
        }
    }

    async fn decide(&mut self) {
        let key = format!("k{:02}", self.dice.below(40));
        let decision =
            [ManualDecision::Retry, ManualDecision::Retry, ManualDecision::Resolve, ManualDecision::Abandon]
                [usize::try_from(self.dice.below(4)).unwrap()];
        match self
            .t
            .store
            .items()
            .decide("wallet", &key, DecisionRequest::new(decision, None, "ada"), at(self.now))
            .await
        {
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    async fn crash_or_renew(&mut self, host: u128) {
        match self.dice.below(3) {
            0 => drop(self.t.store.items().renew(lease(host, self.now)).await.unwrap()),
            1 => drop(
                self.t
                    .store
                    .items()
                    .recover(Some(super::support::host(host)), |_| 3, at(self.now))
                    .await
                    .unwrap(),
            ),
            _ => drop(self.t.store.items().recover(None, |_| 3, at(self.now)).await.unwrap()),
        }
    }

    async fn check(&self, when: &str) {
        for question in QUESTIONS {
            assert_eq!(self.t.number(question).await, 0, "{when}: {question}");
        }
        let rows = self.t.rows("SELECT item_key FROM item").await;
        let stored: BTreeSet<String> = rows.iter().map(|row| row.text("item_key").unwrap()).collect();
        assert_eq!(stored, self.known, "{when}");
        let applied = i64::try_from(self.applied.len()).unwrap();
        assert_eq!(self.t.number("SELECT COUNT(*) AS n FROM kv").await, applied, "{when}");
        let counts = self.t.store.items().counts().await.unwrap();
        assert_eq!(
            counts.iter().map(|count| count.items as usize).sum::<usize>(),
            self.known.len(),
            "{when}"
        );
    }
}

async fn story(t: T, job: JobSpec, seed: u64) {
    let mut world = World {
        t,
        job,
        dice: Dice(seed),
        now: 0,
        held: Vec::new(),
        discoveries: Vec::new(),
        known: BTreeSet::new(),
        applied: BTreeSet::new(),
    };
    for step in 0..STEPS {
        world.step().await;
        if step % 10 == 9 {
            world.check(&format!("seed {seed}, step {step}")).await;
        }
    }
    assert!(world.applied.len() > 20, "the story has too little in it: {}", world.applied.len());
}

async fn items_are_conserved(t: T) {
    story(t, job(), 0x5EED_0001).await;
}

async fn discovered_items_are_conserved_when_the_job_resolves_absent_ones(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    story(t, job, 0x5EED_0002).await;
}
