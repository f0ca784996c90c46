//! How an attempt can end, and the consequence for its item.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::{DEFERRALS_EXHAUSTED, ErrorInfo, Failure, SNOOZED_TO_PAST};
use crate::item::{Claimed, Event};
use crate::retry::RetryPolicy;

/// A guest's answer when it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Resolved { note: Option<String> },
    Awaiting { note: Option<String> },
    Snoozed { until: Timestamp },
}

/// After a failure of the host an item is retried after its backoff, within these bounds.
const HOST_RETRY_MIN: SignedDuration = SignedDuration::from_secs(5);
const HOST_RETRY_MAX: SignedDuration = SignedDuration::from_mins(5);

/// The record of an ended attempt, to be written for its item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub event: Event,
    /// The kind of end, as a label for tables and metrics.
    pub verdict: Verdict,
    /// When the item is due again, if it is.
    pub due_at: Timestamp,
    /// Number of counted attempts, including this one if it counts.
    pub attempts: u32,
    /// Number of consecutive answers that did not count, including this one if it did not.
    pub deferrals: u32,
    pub error: Option<ErrorInfo>,
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Resolved,
    Awaiting,
    Snoozed,
    Failed,
    Throttled,
    Permanent,
    /// Failed, and no attempt was left.
    Exhausted,
    Interrupted,
    /// The host failed, not the item.
    HostFailed,
}

impl Verdict {
    /// Whether the item is put back as if it had not been claimed. Its run keeps waiting for its attempt.
    pub fn is_put_back(self) -> bool {
        matches!(self, Verdict::Interrupted | Verdict::HostFailed)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Resolved => "resolved",
            Verdict::Awaiting => "awaiting",
            Verdict::Snoozed => "snoozed",
            Verdict::Failed => "failed",
            Verdict::Throttled => "throttled",
            Verdict::Permanent => "permanent",
            Verdict::Exhausted => "exhausted",
            Verdict::Interrupted => "interrupted",
            Verdict::HostFailed => "host-failed",
        }
    }
}

/// Longest time for which a guest can postpone an item: a wrong number must not hide the item for ever.
pub const PUT_OFF_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

impl Outcome {
    /// Checks the answer of an attempt that began at `claimed_at`: it cannot be snoozed until before that
    /// instant.
    pub fn checked(self, claimed_at: Timestamp) -> Result<Outcome, Failure> {
        match self {
            Outcome::Snoozed { until } if until < claimed_at => {
                let text = format!(
                    "snoozed until {until}, which is before the attempt began: answer with an instant \
                     (milliseconds since 1970), not with a duration"
                );
                Err(Failure::transient(SNOOZED_TO_PAST, text))
            }
            outcome => Ok(outcome),
        }
    }
}

/// Decides the consequence of an attempt's result.
pub fn decide(
    result: &Result<Outcome, Failure>,
    item: &Claimed,
    policy: &RetryPolicy,
    now: Timestamp,
) -> Ending {
    let result = result.clone().and_then(|outcome| outcome.checked(item.claimed_at));
    let before = item.attempts;
    let counted = before.saturating_add(1);
    let backoff = later(now, policy.delay(counted, &item.key));
    let ending = |event, verdict, due_at, attempts| Ending {
        event,
        verdict,
        due_at,
        attempts,
        deferrals: 0,
        error: None,
        note: None,
    };
    let deferred = |verdict, wait, error| defer(item, policy, now, Deferral { verdict, wait, error });
    match &result {
        Ok(Outcome::Resolved { note }) => {
            Ending { note: note.clone(), ..ending(Event::Resolved, Verdict::Resolved, now, counted) }
        }
        Ok(Outcome::Awaiting { note }) if item.exhausted(policy, counted) => {
            let message = format!("still awaited after {counted} attempts");
            let error = Some(ErrorInfo::new("attempts-exhausted", message));
            let note = note.clone();
            Ending { error, note, ..ending(Event::GiveUp, Verdict::Exhausted, now, counted) }
        }
        Ok(Outcome::Awaiting { note }) => {
            Ending { note: note.clone(), ..ending(Event::Await, Verdict::Awaiting, backoff, counted) }
        }
        Ok(Outcome::Snoozed { until }) => deferred(Verdict::Snoozed, until.duration_since(now), None),
        Err(Failure::Interrupted) => {
            let deferrals = item.deferrals;
            Ending { deferrals, ..ending(Event::Interrupted, Verdict::Interrupted, now, before) }
        }
        Err(Failure::Host(error)) => {
            let wait = policy.delay(counted, &item.key).clamp(HOST_RETRY_MIN, HOST_RETRY_MAX);
            let (error, deferrals) = (Some(error.clone()), item.deferrals);
            let at = later(now, wait);
            Ending { error, deferrals, ..ending(Event::Interrupted, Verdict::HostFailed, at, before) }
        }
        Err(failure) => {
            let failure = policy.judged(failure, counted, &item.key);
            let ending = match &failure {
                Failure::Throttled { retry_after, error } => {
                    return deferred(Verdict::Throttled, *retry_after, Some(error.clone()));
                }
                Failure::Postponed { retry_after, .. } => {
                    let due_at = later(now, (*retry_after).clamp(SignedDuration::ZERO, PUT_OFF_MAX));
                    let deferrals = item.deferrals;
                    Ending { deferrals, ..ending(Event::Retry, Verdict::Throttled, due_at, before) }
                }
                Failure::Permanent(_) => ending(Event::GiveUp, Verdict::Permanent, now, counted),
                _ if item.exhausted(policy, counted) => {
                    ending(Event::GiveUp, Verdict::Exhausted, now, counted)
                }
                _ => ending(Event::Retry, Verdict::Failed, backoff, counted),
            };
            Ending { error: failure.error().cloned(), ..ending }
        }
    }
}

/// An answer that postpones an item without counting as an attempt.
struct Deferral {
    verdict: Verdict,
    wait: SignedDuration,
    error: Option<ErrorInfo>,
}

/// Consecutive deferrals back off regardless of the requested delay, and too many of them require a person's
/// decision. Otherwise a guest or a service could set the host's pace.
fn defer(item: &Claimed, policy: &RetryPolicy, now: Timestamp, asked: Deferral) -> Ending {
    let number = item.deferrals.saturating_add(1);
    let Deferral { verdict, wait, error } = asked;
    if policy.too_many_deferrals(number) {
        let last =
            error.map_or_else(|| verdict.as_str().to_owned(), |e| format!("{}: {}", e.code, e.message));
        let message = format!("put off {number} times in a row without a counted attempt; last: {last}");
        return Ending {
            event: Event::GiveUp,
            verdict: Verdict::Exhausted,
            due_at: now,
            attempts: item.attempts,
            deferrals: 0,
            error: Some(ErrorInfo::new(DEFERRALS_EXHAUSTED, message)),
            note: None,
        };
    }
    let wait = wait.max(policy.deferral(number, &item.key)).min(PUT_OFF_MAX);
    Ending {
        event: Event::Retry,
        verdict,
        due_at: later(now, wait),
        attempts: item.attempts,
        deferrals: number,
        error,
        note: None,
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
