//! A run: started by a tick, a person or an API call. It consists of a discovery and the first attempt of each
//! item that the discovery queued.

use jiff::Timestamp;

use crate::id::{AttemptId, JobName, RunId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Waits for a host, or its discovery is in progress.
    Discovering,
    /// Queued items wait for their first attempt.
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

/// A run whose discovery is leased by a host.
#[derive(Debug, Clone)]
pub struct ClaimedRun {
    pub id: RunId,
    pub job: JobName,
    pub trigger: String,
    /// The schedule's instant that started the run.
    pub scheduled_at: Option<Timestamp>,
    /// The parameters of the start: a JSON document.
    pub params: Option<String>,
    pub epoch: i64,
    pub attempt_id: AttemptId,
    pub claimed_at: Timestamp,
}

/// The result of a discovery, added up over its pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Items that the plugin returned.
    pub found: u32,
    /// New, reopened and due items: each gets an attempt in this run.
    pub queued: u32,
    /// Items in their backoff or with a running attempt.
    pub waiting: u32,
    /// Items above the limit of one run. The next run finds them again.
    pub over_cap: u32,
    /// Items left unchanged, because a person has to decide about them or decided so.
    pub manual: u32,
    /// Items resolved because a complete discovery no longer found them.
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
