//! The durable unit of work, and the only state machine.
//!
//! `next` defines the legal transitions. The store writes each of them together with its effects, its attempt
//! and its audit record in one transaction, as compare-and-set.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::batch::InBatch;
use crate::failure::ErrorInfo;
use crate::id::{AttemptId, ItemId, JobName, RunId};
use crate::retry::RetryPolicy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Due at an instant, for its first or a later attempt (displayed as `pending` or `retrying`).
    Scheduled,
    /// Leased by a host, with a running attempt.
    Running,
    /// Started in another system. Checked again when due.
    Awaiting,
    Resolved,
    /// A person has to decide.
    ManualRequired,
    /// A person gave it up.
    Abandoned,
}

impl State {
    pub const ALL: [State; 6] = [
        State::Scheduled,
        State::Running,
        State::Awaiting,
        State::Resolved,
        State::ManualRequired,
        State::Abandoned,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Running => "running",
            State::Awaiting => "awaiting",
            State::Resolved => "resolved",
            State::ManualRequired => "manual_required",
            State::Abandoned => "abandoned",
        }
    }

    pub fn is_end(self) -> bool {
        matches!(self, State::Resolved | State::ManualRequired | State::Abandoned)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        State::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a state of an item"))
    }
}

/// The events of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A discovery found it again.
    Found,
    /// A discovery found it again after its attempts were exhausted, and its job restarts such items.
    FoundAnew,
    /// A complete discovery of a job with `resolve_when_absent` did not find it.
    Absent,
    /// A host claimed it.
    Claimed,
    /// Its attempt ended: see [`crate::outcome::Ending`].
    Resolved,
    Retry,
    Await,
    GiveUp,
    /// Its host failed (crash, lost lease).
    Lost,
    /// Its host shut down before the attempt ended.
    Interrupted,
    /// A person decided, over the API or the command line.
    Manual(ManualDecision),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManualDecision {
    Retry,
    Resolve,
    /// The item is not tried again automatically.
    Manual,
    Abandon,
}

impl Event {
    pub const ALL: [Event; 14] = [
        Event::Found,
        Event::FoundAnew,
        Event::Absent,
        Event::Claimed,
        Event::Resolved,
        Event::Retry,
        Event::Await,
        Event::GiveUp,
        Event::Lost,
        Event::Interrupted,
        Event::Manual(ManualDecision::Retry),
        Event::Manual(ManualDecision::Resolve),
        Event::Manual(ManualDecision::Manual),
        Event::Manual(ManualDecision::Abandon),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Event::Found => "found",
            Event::FoundAnew => "found_anew",
            Event::Absent => "absent",
            Event::Claimed => "claimed",
            Event::Resolved => "resolved",
            Event::Retry => "retry",
            Event::Await => "await",
            Event::GiveUp => "give_up",
            Event::Lost => "lost",
            Event::Interrupted => "interrupted",
            Event::Manual(ManualDecision::Retry) => "retried_manually",
            Event::Manual(ManualDecision::Resolve) => "resolved_manually",
            Event::Manual(ManualDecision::Manual) => "left_to_a_person",
            Event::Manual(ManualDecision::Abandon) => "abandoned_manually",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an item that is {state} cannot be {}", event.as_str())]
pub struct IllegalTransition {
    pub state: State,
    pub event: Event,
}

/// The state machine. Every pair that is not listed is illegal.
pub fn next(state: State, event: Event) -> Result<State, IllegalTransition> {
    use State::{Abandoned, Awaiting, ManualRequired, Resolved, Running, Scheduled};
    match (state, event) {
        // Discovery: open items are updated; items that a person ended are left alone.
        (Resolved, Event::Found) => Ok(Scheduled),
        (same, Event::Found) => Ok(same),
        (ManualRequired, Event::FoundAnew) => Ok(Scheduled),
        (Scheduled | Awaiting, Event::Absent) => Ok(Resolved),

        // One attempt.
        (Scheduled | Awaiting, Event::Claimed) => Ok(Running),
        (Running, Event::Resolved) => Ok(Resolved),
        (Running, Event::Retry | Event::Interrupted) => Ok(Scheduled),
        (Running, Event::Await) => Ok(Awaiting),
        (Running, Event::GiveUp) => Ok(ManualRequired),
        (Running, Event::Lost) => Ok(Scheduled),

        // Manual decisions. A running attempt has to finish first; a resolved or abandoned item can be tried
        // again.
        (
            Scheduled | Awaiting | ManualRequired | Abandoned | Resolved,
            Event::Manual(ManualDecision::Retry),
        ) => Ok(Scheduled),
        (Scheduled | Awaiting | ManualRequired, Event::Manual(ManualDecision::Resolve)) => Ok(Resolved),
        (Scheduled | Awaiting | ManualRequired, Event::Manual(ManualDecision::Manual)) => Ok(ManualRequired),
        (Scheduled | Awaiting | ManualRequired, Event::Manual(ManualDecision::Abandon)) => Ok(Abandoned),

        (state, event) => Err(IllegalTransition { state, event }),
    }
}

/// A claimed item: the input of its attempt.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub id: ItemId,
    pub job: JobName,
    pub key: String,
    pub payload: String,
    /// Number of counted attempts before this one.
    pub attempts: u32,
    /// Consecutive answers before this attempt that postponed the item without counting.
    pub deferrals: u32,
    /// Incremented each time the item starts again at attempt 1. Part of the idempotency key.
    pub series: u32,
    pub epoch: i64,
    pub attempt_id: AttemptId,
    /// The run that queued it, if this is the first attempt since.
    pub run_id: Option<RunId>,
    /// The run whose discovery found it most recently.
    pub found_by: Option<RunId>,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub last_error: Option<ErrorInfo>,
    pub in_batch: Option<InBatch>,
    pub claimed_at: Timestamp,
}

impl Claimed {
    /// Applies the policy's `forget_after`: after a long enough pause the item begins a new series at attempt
    /// 1.
    pub fn remembered(self, policy: &RetryPolicy) -> Claimed {
        if !policy.forgets(self.last_attempt_at, self.claimed_at) {
            return self;
        }
        Claimed { attempts: 0, series: self.series.saturating_add(1), first_attempt_at: None, ..self }
    }

    /// Whether no attempts remain after this many counted ones.
    pub fn exhausted(&self, policy: &RetryPolicy, counted: u32) -> bool {
        let own = self.in_batch.as_ref().and_then(|batch| batch.max_attempts);
        own.map_or_else(|| policy.exhausted(counted), |max| counted >= max)
    }

    /// The number of this attempt, from 1.
    pub fn number(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// The same after a crash and its repetition; new for each counted attempt.
    pub fn idempotency_key(&self) -> String {
        format!("{}.{}.{}", self.id, self.series, self.number())
    }
}
