//! Due instants of a schedule, and what becomes of each. (job, instant) is unique over all hosts.

use jiff::{SignedDuration, Timestamp};

use crate::schedule::Due;

/// A host that looks this late at an instant was busy, not away.
pub const ON_TIME: SignedDuration = SignedDuration::from_mins(1);

/// What becomes of an instant while a run of the job is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    #[default]
    Skip,
    /// The newest waits for the open run's end.
    BufferOne,
    /// The open run is given up: what it had queued is left to the new one.
    CancelOther,
    /// It runs beside the other.
    Allow,
}

/// What becomes of instants that nobody acted on in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    None,
    /// The newest of them runs, for all of them.
    Last,
    /// Each of the newest ones runs, up to this many.
    All(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickPolicy {
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    /// What is older is not caught up with.
    pub catch_up_window: Option<SignedDuration>,
    /// An instant that is this late does not run.
    pub start_deadline: Option<SignedDuration>,
    /// The job begins a stable share of this later than its schedule says, so that not all begin at once.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It started a run.
    Ran,
    /// It starts one as soon as the open one has ended.
    Buffered,
    /// A run of the job was still open.
    Overlap,
    /// The host was away; a later instant ran in its place.
    Coalesced,
    /// The host was away, and nothing ran in its place.
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

/// How the job stands when its instants are decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// A run of it has not ended.
    pub open: bool,
    pub paused: bool,
}

impl TickPolicy {
    /// What becomes of each due instant, the newest first.
    pub fn fates(&self, due: &Due, standing: Standing, now: Timestamp) -> Vec<(Timestamp, Fate)> {
        let mut runs = 0_u32;
        let all = std::iter::once(&due.at).chain(&due.missed);
        all.enumerate()
            .map(|(age, at)| {
                let fate = self.fate(*at, age, runs, standing, now);
                runs += u32::from(matches!(fate, Fate::Ran | Fate::Buffered | Fate::Overlap));
                (*at, fate)
            })
            .collect()
    }

    /// `age` counts the instants after it, `runs` those of them that took its place.
    fn fate(&self, at: Timestamp, age: usize, runs: u32, standing: Standing, now: Timestamp) -> Fate {
        let late = now.duration_since(at);
        if standing.paused {
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
            (true, _) if !standing.open => Fate::Ran,
            (true, _) => match self.overlap {
                Overlap::Skip => Fate::Overlap,
                Overlap::BufferOne if age == 0 => Fate::Buffered,
                Overlap::BufferOne => Fate::Overlap,
                Overlap::CancelOther | Overlap::Allow => Fate::Ran,
            },
        }
    }

    /// How much later than its schedule the job of this name begins: always the same.
    pub fn offset(&self, job: &str) -> SignedDuration {
        let share = crate::retry::share(job);
        let millis = self.jitter.as_millis().max(0) as f64 * share;
        SignedDuration::from_millis(millis as i64)
    }
}
