//! Replay: repeats past attempts on two versions of a plugin, the active one and a new one. Both read today's
//! data, and no effect of them is kept, so the differences are caused by the versions.

mod effects;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use domain::failure::{ErrorInfo, Failure, SQL_COMMIT};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::outcome::{Ending, Verdict, decide};
use domain::runner::{Call, CallReport, Usage};
use jiff::Timestamp;
use sandbox::{Sandbox, Trial};
use serde_json::Value;
use store::Store;
use store::attempts::replay::Recorded;
use store::attempts::scope::{Asked, HELD_MAX};
use tokio::time::Instant;

use self::report::{
    ReplayAttempt, ReplayCost, ReplayEnd, ReplayRecorded, ReplaySummary, ReplayVersion, Replayed,
};

/// Time limit for all attempts together.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Effects that are listed for each attempt.
const LISTED_MAX: usize = 100;
/// Tolerance for equal delays: each is counted from its own call.
const PUT_OFF_SLACK_MS: u64 = 2_000;

pub struct Replayer {
    pub store: Arc<Store>,
    pub sandbox: Arc<Sandbox>,
    pub clock: Clock,
    pub job: Arc<JobSpec>,
    pub now: Trial,
    pub new: Trial,
}

/// The result of one version.
struct Made {
    end: ReplayEnd,
    effects: Vec<Value>,
    usage: Usage,
}

impl Replayer {
    /// Repeats the attempts one after the other. Returns `true` if the time limit ended the replay early.
    pub async fn run(&self, recorded: Vec<Recorded>) -> (Vec<ReplayAttempt>, bool) {
        let until = Instant::now() + TIME_MAX;
        let mut attempts = Vec::with_capacity(recorded.len());
        for (number, one) in recorded.into_iter().enumerate() {
            match tokio::time::timeout_at(until, self.again(one, number % 2 == 1)).await {
                Ok(attempt) => attempts.push(attempt),
                Err(_elapsed) => return (attempts, true),
            }
        }
        (attempts, false)
    }

    /// The first call finds memory and databases cold, so the two versions alternate.
    async fn again(&self, recorded: Recorded, new_first: bool) -> ReplayAttempt {
        let (first, second) = if new_first { (&self.new, &self.now) } else { (&self.now, &self.new) };
        let first = self.made(first, &recorded.item).await;
        let second = self.made(second, &recorded.item).await;
        let (now, new) = if new_first { (second, first) } else { (first, second) };
        let same_outcome = same(&now.end, &new.end);
        let effects_differ = effects::differing(&now.effects, &new.effects);
        ReplayAttempt {
            item: recorded.item.key.clone(),
            number: recorded.item.number(),
            ended_at: recorded.ended_at,
            recorded: known(recorded),
            now: now.shown(),
            new: new.shown(),
            same_outcome,
            effects_differ,
        }
    }

    async fn made(&self, version: &Trial, item: &Claimed) -> Made {
        let began = self.clock.now();
        let scope = Arc::new(self.store.scope_of_replay(self.job.clone(), item.clone(), began));
        let call = Call { job: self.job.clone(), input: item.clone(), scope: scope.clone(), share: None };
        let report = tokio::select! {
            report = self.sandbox.replay(version, call) => report,
            _ = scope.held_too_long() => held_too_long(),
        };
        let (asked, whole) = scope.finish().await;
        let result = report.result.and_then(|outcome| match whole {
            Ok(()) => Ok(outcome),
            Err(error) => Err(Failure::transient(SQL_COMMIT, error.to_string())),
        });
        let asked = match &result {
            Ok(_) => asked,
            Err(_) => Asked { locks: asked.locks, requests: asked.requests, ..Asked::default() },
        };
        let ending = decide(&result, item, &self.job.retry, began);
        Made { end: end(ending, began), effects: effects::of(version, asked), usage: report.usage }
    }
}

impl Made {
    fn shown(self) -> Replayed {
        let Made { end, mut effects, usage } = self;
        let unlisted = effects.len().saturating_sub(LISTED_MAX);
        effects.truncate(LISTED_MAX);
        Replayed { end, effects, unlisted, cost: cost(usage) }
    }
}

fn held_too_long<T>() -> CallReport<T> {
    let text = format!(
        "a replay may hold its database writes for at most {HELD_MAX:?}, because running attempts may wait for them"
    );
    CallReport {
        result: Err(Failure::transient("replay-cut-off", text)),
        digest: None,
        usage: Usage::default(),
        log: String::new(),
    }
}

fn end(ending: Ending, began: Timestamp) -> ReplayEnd {
    let put_off = matches!(ending.verdict, Verdict::Snoozed | Verdict::Throttled);
    let millis = || i64::try_from(ending.due_at.duration_since(began).as_millis()).unwrap_or(i64::MAX);
    let put_off_ms = put_off.then(millis);
    let (code, message) = code_and_message(ending.error);
    ReplayEnd { outcome: ending.verdict.as_str().to_owned(), code, message, note: ending.note, put_off_ms }
}

fn known(recorded: Recorded) -> ReplayRecorded {
    let Recorded { verdict, error, note, digest, usage, .. } = recorded;
    let (code, message) = code_and_message(error);
    let end = ReplayEnd { outcome: verdict, code, message, note, put_off_ms: None };
    ReplayRecorded { end, digest, cost: cost(usage) }
}

fn code_and_message(error: Option<ErrorInfo>) -> (Option<String>, Option<String>) {
    error.map(|error| (error.code, error.message)).unzip()
}

fn cost(usage: Usage) -> ReplayCost {
    let Usage { wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes } = usage;
    ReplayCost { wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes }
}

/// Messages are not compared, because they may contain times and addresses.
fn same(now: &ReplayEnd, new: &ReplayEnd) -> bool {
    let put_off = match (now.put_off_ms, new.put_off_ms) {
        (Some(now), Some(new)) => now.abs_diff(new) <= PUT_OFF_SLACK_MS,
        (now, new) => now == new,
    };
    put_off && (&now.outcome, &now.code, &now.note) == (&new.outcome, &new.code, &new.note)
}

pub fn version(trial: &Trial) -> ReplayVersion {
    ReplayVersion { digest: trial.digest().to_string(), version: trial.describe().version.clone() }
}

pub fn summary(attempts: &[ReplayAttempt]) -> ReplaySummary {
    let different_outcomes = attempts.iter().filter(|one| !one.same_outcome).count();
    ReplaySummary {
        attempts: attempts.len(),
        same_outcomes: attempts.len() - different_outcomes,
        different_outcomes,
        different_effects: attempts.iter().filter(|one| !one.effects_differ.is_empty()).count(),
        cpu_ratio: cpu_ratio(attempts),
    }
}

/// The geometric mean of the ratios of the attempts, so that one interrupted attempt does not dominate.
#[allow(clippy::cast_precision_loss, reason = "microseconds of a minute are exact")]
fn cpu_ratio(attempts: &[ReplayAttempt]) -> Option<f64> {
    let ratio = |one: &ReplayAttempt| {
        let (now, new) = (one.now.cost.cpu_us, one.new.cost.cpu_us);
        (now > 0 && new > 0).then(|| (new as f64 / now as f64).ln())
    };
    let ratios: Vec<f64> = attempts.iter().filter_map(ratio).collect();
    (!ratios.is_empty()).then(|| (ratios.iter().sum::<f64>() / ratios.len() as f64).exp())
}
