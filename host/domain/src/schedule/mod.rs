//! When a job is due. Cron texts, and nights in which the zone's offset changes, are in [`cron`]. Intervals are
//! aligned to 1970, so all hosts compute the same instants. [`tick`] decides which due instants start a run.

pub mod cron;
mod error;
pub mod tick;
pub mod zone;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use self::cron::{Cron, OddNights};
pub use self::error::{INSTANTS_MAX, ScheduleError};

/// Shortest interval of a schedule.
pub const EVERY_MIN: SignedDuration = SignedDuration::from_secs(1);
/// Most instants in [`Due::missed`].
pub const MISSED_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Cron(Box<Cron>),
    Every(SignedDuration),
    /// These instants, in order.
    At(Vec<Timestamp>),
    /// Started only by people and the API.
    Manual,
}

/// The due instants of a schedule in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The latest one.
    pub at: Timestamp,
    /// The earlier ones, newest first, at most [`MISSED_MAX`].
    pub missed: Vec<Timestamp>,
}

impl Schedule {
    pub fn cron(
        text: &str,
        zone_name: &str,
        nights: OddNights,
        now: Timestamp,
    ) -> Result<Schedule, ScheduleError> {
        let cron = Cron::parse(text, zone_name, nights)?;
        if cron.next_after(now).is_none() {
            return Err(ScheduleError::NeverFires(text.to_owned()));
        }
        Ok(Schedule::Cron(Box::new(cron)))
    }

    pub fn at(mut instants: Vec<Timestamp>) -> Result<Schedule, ScheduleError> {
        if instants.is_empty() || instants.len() > INSTANTS_MAX {
            return Err(ScheduleError::BadInstants);
        }
        instants.sort_unstable();
        instants.dedup();
        Ok(Schedule::At(instants))
    }

    pub fn every(interval: SignedDuration) -> Result<Schedule, ScheduleError> {
        if interval < EVERY_MIN {
            return Err(ScheduleError::TooOften(format!("{interval:#}")));
        }
        Ok(Schedule::Every(interval))
    }

    /// How a cron text's two fields for days combine, if both restrict the day.
    pub fn days_rule(&self) -> Option<&'static str> {
        match self {
            Schedule::Cron(cron) => cron.days_rule(),
            Schedule::Every(_) | Schedule::At(_) | Schedule::Manual => None,
        }
    }

    /// The first instant after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Cron(cron) => cron.next_after(after),
            Schedule::Every(interval) => {
                let step = interval.as_millis();
                let slot = i128::from(after.as_millisecond()).div_euclid(step) + 1;
                from_millis(slot * step)
            }
            Schedule::At(instants) => instants.iter().copied().find(|instant| *instant > after),
            Schedule::Manual => None,
        }
    }

    /// All instants after `after`, in order.
    pub fn instants_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(after), |instant| self.next_after(*instant))
    }

    /// The last instant at or before `at`.
    fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Cron(cron) => cron.last_until(at),
            Schedule::Every(interval) => {
                let step = interval.as_millis();
                from_millis(i128::from(at.as_millisecond()).div_euclid(step) * step)
            }
            Schedule::At(instants) => instants.iter().copied().rev().find(|instant| *instant <= at),
            Schedule::Manual => None,
        }
    }

    /// The instants after `after`, up to and including `now`.
    pub fn due(&self, after: Timestamp, now: Timestamp) -> Option<Due> {
        if self.next_after(after).is_none_or(|next| next > now) {
            return None;
        }
        let at = self.last_until(now).filter(|at| *at > after)?;
        let before = |instant: Timestamp| {
            let end = instant.checked_sub(SignedDuration::from_millis(1)).ok()?;
            self.last_until(end).filter(|earlier| *earlier > after)
        };
        let missed = std::iter::successors(before(at), |instant| before(*instant));
        Some(Due { at, missed: missed.take(MISSED_MAX).collect() })
    }
}

fn from_millis(millis: i128) -> Option<Timestamp> {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Cron(cron) => cron.fmt(f),
            Schedule::Every(interval) => write!(f, "every {interval:#}"),
            Schedule::At(instants) => {
                let all: Vec<String> = instants.iter().map(Timestamp::to_string).collect();
                write!(f, "at {}", all.join(", "))
            }
            Schedule::Manual => f.write_str("manual"),
        }
    }
}
