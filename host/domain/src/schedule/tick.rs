//! Due instants of a schedule, and the fate of each. (job, instant) is unique over all hosts.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Due;

/// A host that handles an instant up to this late was busy, not absent.
pub const ON_TIME: SignedDuration = SignedDuration::from_mins(1);

/// How to treat an instant while a run of the job is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Skip,
    /// The newest instant waits for the end of the open run.
    BufferOne,
    /// The open run is cancelled. The new run takes over its queued items.
    CancelOther,
    /// A second run starts beside the open one.
    Allow,
}

/// How to treat instants that no host handled in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    None,
    /// The newest of them runs, in place of all.
    Last,
    /// Each of the newest ones runs, up to this many.
    All(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickPolicy {
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    /// Older instants are not caught up.
    pub catch_up_window: Option<SignedDuration>,
    /// An instant later than this does not run.
    pub start_deadline: Option<SignedDuration>,
    /// The job starts later than its schedule by a stable share of this, so that jobs do not all start at
    /// once.
    pub jitter: SignedDuration,
}

impl Default for TickPolicy {
    fn default() -> TickPolicy {
        TickPolicy {
            overlap: Overlap::Skip,
            catch_up: CatchUp::Last,
            catch_up_window: None,
            start_deadline: None,
            jitter: SignedDuration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It started a run.
    Ran,
    /// It starts a run as soon as the open one has ended.
    Buffered,
    /// A run of the job was still open.
    Overlap,
    /// No host handled it in time; a later instant ran in its place.
    Coalesced,
    /// No host handled it in time, and no run started in its place.
    Missed,
    /// It was later than its start deadline.
    Late,
    /// The job was paused.
    Paused,
}

impl Fate {
    pub const ALL: [Fate; 7] =
        [Fate::Ran, Fate::Buffered, Fate::Overlap, Fate::Coalesced, Fate::Missed, Fate::Late, Fate::Paused];

    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Ran => "ran",
            Fate::Buffered => "buffered",
            Fate::Overlap => "overlap",
            Fate::Coalesced => "coalesced",
            Fate::Missed => "missed",
            Fate::Late => "late",
            Fate::Paused => "paused",
        }
    }
}

/// The state of a job when its instants are decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobStatus {
    /// The job has a run that has not ended.
    pub open: bool,
    pub paused: bool,
}

impl TickPolicy {
    /// The fate of each due instant, newest first.
    pub fn fates(&self, due: &Due, status: JobStatus, now: Timestamp) -> Vec<(Timestamp, Fate)> {
        let mut runs = 0_u32;
        let all = std::iter::once(&due.at).chain(&due.missed);
        all.enumerate()
            .map(|(age, at)| {
                let fate = self.fate(*at, age, runs, status, now);
                runs += u32::from(matches!(fate, Fate::Ran | Fate::Buffered | Fate::Overlap));
                (*at, fate)
            })
            .collect()
    }

    /// `age` is the number of later due instants, `runs` the number of those that took its place.
    fn fate(&self, at: Timestamp, age: usize, runs: u32, status: JobStatus, now: Timestamp) -> Fate {
        let late = now.duration_since(at);
        if status.paused {
            return Fate::Paused;
        }
        if self.start_deadline.is_some_and(|deadline| late > deadline) {
            return Fate::Late;
        }
        let in_time = age == 0 && late <= ON_TIME;
        let in_window = self.catch_up_window.is_none_or(|window| late <= window);
        let wanted = match self.catch_up {
            _ if in_time => true,
            CatchUp::None => false,
            CatchUp::Last => in_window && runs == 0,
            CatchUp::All(most) => in_window && runs < most,
        };
        match (wanted, runs) {
            (false, 0) => Fate::Missed,
            (false, _) if self.catch_up == CatchUp::Last => Fate::Coalesced,
            (false, _) => Fate::Missed,
            (true, _) if !status.open => Fate::Ran,
            (true, _) => match self.overlap {
                Overlap::Skip => Fate::Overlap,
                Overlap::BufferOne if age == 0 => Fate::Buffered,
                Overlap::BufferOne => Fate::Overlap,
                Overlap::CancelOther | Overlap::Allow => Fate::Ran,
            },
        }
    }

    /// How much later than its schedule this job starts. Always the same for one name.
    pub fn offset(&self, job: &str) -> SignedDuration {
        let share = crate::retry::share(job);
        let millis = self.jitter.as_millis().max(0) as f64 * share;
        SignedDuration::from_millis(millis as i64)
    }
}
