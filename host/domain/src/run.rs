//! What a tick, a person or an API call starts: a discovery, then one attempt of each item that it queued.

use jiff::Timestamp;

use crate::id::{AttemptId, JobName, RunId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Waits for a host, or its discovery is going on.
    Discovering,
    /// Items that it queued wait for their first attempt.
    Running,
    Finished,
    /// Its discovery failed.
    Failed,
}

impl RunState {
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Discovering => "discovering",
            RunState::Running => "running",
            RunState::Finished => "finished",
            RunState::Failed => "failed",
        }
    }
}

/// A run whose discovery a host holds.
#[derive(Debug, Clone)]
pub struct ClaimedRun {
    pub id: RunId,
    pub job: JobName,
    pub trigger: String,
    /// The instant of the schedule that it is for.
    pub scheduled_at: Option<Timestamp>,
    /// What it was started with: a JSON document.
    pub params: Option<String>,
    pub epoch: i64,
    pub attempt_id: AttemptId,
    pub claimed_at: Timestamp,
}

/// What a discovery did, page by page; adds up over the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Items that the plugin named.
    pub found: u32,
    /// New or reopened ones, and due ones: each gets an attempt in this run.
    pub queued: u32,
    /// In their backoff, or running just now.
    pub waiting: u32,
    /// Beyond what one run may queue: found again by the next one.
    pub over_cap: u32,
    /// Left alone because a person has to decide, or decided.
    pub manual: u32,
    /// Resolved because a complete discovery did not find them any more.
    pub absent: u32,
}

impl Discovered {
    pub fn add(&mut self, page: &Discovered) {
        self.found += page.found;
        self.queued += page.queued;
        self.waiting += page.waiting;
        self.over_cap += page.over_cap;
        self.manual += page.manual;
        self.absent += page.absent;
    }
}
