//! When a job is due. Times in a daylight-saving gap fire at the gap's end, times in a fold
//! fire once (the rules of the `croner` crate); intervals follow a grid that all hosts share.

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Shortest interval of a schedule.
pub const EVERY_MIN: SignedDuration = SignedDuration::from_secs(1);
/// How far back a cron's last instant is looked for: 29 February on one day of the week comes every 28 years.
const LOOK_BACK_MAX: SignedDuration = SignedDuration::from_hours(24 * 366 * 60);
/// Most missed instants that are listed one by one.
pub const MISSED_MAX: usize = 100;

#[derive(Debug, Clone)]
pub enum Schedule {
    Cron(Box<Cron>),
    Every(SignedDuration),
    /// Only people and the API start it.
    Manual,
}

#[derive(Debug, Clone)]
pub struct Cron {
    text: String,
    zone_name: String,
    pattern: croner::Cron,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("cron text {text:?} is not valid: {reason} (use 5 or 6 fields like \"*/5 * * * *\", or @daily)")]
    BadCron { text: String, reason: String },
    #[error("cron text {0:?} never fires")]
    NeverFires(String),
    #[error("time zone {0:?} is not known (use an IANA name like \"Europe/Berlin\")")]
    UnknownZone(String),
    #[error("an interval of {0} is below the least of 1 s")]
    TooOften(String),
}

/// The instants of a schedule in a span of time: the last one, and those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    /// Earlier instants nobody acted on, newest first, at most [`MISSED_MAX`].
    pub missed: Vec<Timestamp>,
}

impl Schedule {
    pub fn cron(text: &str, zone_name: &str, now: Timestamp) -> Result<Schedule, ScheduleError> {
        let zone = TimeZone::get(zone_name).map_err(|_| ScheduleError::UnknownZone(zone_name.to_owned()))?;
        let pattern = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .build()
            .parse(text)
            .map_err(|e| ScheduleError::BadCron { text: text.to_owned(), reason: e.to_string() })?;
        let cron = Cron { text: text.to_owned(), zone_name: zone_name.to_owned(), pattern, zone };
        if cron.next_after(now).is_none() {
            return Err(ScheduleError::NeverFires(text.to_owned()));
        }
        Ok(Schedule::Cron(Box::new(cron)))
    }

    pub fn every(interval: SignedDuration) -> Result<Schedule, ScheduleError> {
        if interval < EVERY_MIN {
            return Err(ScheduleError::TooOften(format!("{interval:#}")));
        }
        Ok(Schedule::Every(interval))
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
            Schedule::Manual => None,
        }
    }

    /// The last instant at or before `at`.
    fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Cron(cron) => cron.last_until(at),
            Schedule::Every(interval) => {
                let step = interval.as_millis();
                from_millis(i128::from(at.as_millisecond()).div_euclid(step) * step)
            }
            Schedule::Manual => None,
        }
    }

    /// What became due after `after`, until `now` inclusive.
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

impl Cron {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.to_zoned(self.zone.clone());
        self.pattern.find_next_occurrence(&from, false).ok().map(|zoned| zoned.timestamp())
    }

    /// Looks ahead from ever earlier, so that both directions find the same instants. (The crate's own
    /// search backwards answers with later instants than it was asked for in nights with a fold.)
    fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        let mut span = SignedDuration::from_secs(1);
        while span <= LOOK_BACK_MAX {
            let first = self.next_after(at.checked_sub(span).ok()?);
            let instants = std::iter::successors(first, |instant| self.next_after(*instant));
            if let Some(last) = instants.take_while(|instant| *instant <= at).last() {
                return Some(last);
            }
            span *= 2;
        }
        None
    }
}

fn from_millis(millis: i128) -> Option<Timestamp> {
    i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Cron(cron) => write!(f, "cron {} ({})", cron.text, cron.zone_name),
            Schedule::Every(interval) => write!(f, "every {interval:#}"),
            Schedule::Manual => f.write_str("manual"),
        }
    }
}
