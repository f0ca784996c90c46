//! Cron texts in a time zone, with a defined rule for the two nights a year when the offset changes.
//!
//! [`fields`] decides the meaning of the fields, and `croner` matches them on plain wall-clock time. This
//! module handles the zone. Between two transitions the offset is constant, so wall clock and instant differ
//! by a constant. At a transition forward a part of the wall clock is missing (gap). At a transition back a
//! part is repeated (fold).

mod fields;

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use self::fields::Fields;
use super::error::ScheduleError;
use super::zone::zone;

/// How far to search back for a cron's last instant: 29 February falls on a given weekday every 28 years.
const LOOK_BACK_MAX: SignedDuration = SignedDuration::from_hours(24 * 366 * 60);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// How to treat times that a transition forward skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// They fire once, together, at the end of the gap.
    After,
    Skip,
}

/// How to treat times that a transition back repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// They fire in the first pass only.
    Once,
    Twice,
}

/// Explicit settings for gap and fold. The defaults depend on the text. A text with a single time of day (one
/// second, minute and hour) fires after the gap and once in the fold. Every other text follows the wall
/// clock: times in the gap are skipped, times in the fold fire twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OddNights {
    pub gap: Option<Gap>,
    pub fold: Option<Fold>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone_name: String,
    pattern: croner::Cron,
    zone: TimeZone,
    days_rule: Option<&'static str>,
    chosen: OddNights,
    gap: Gap,
    fold: Fold,
}

impl Cron {
    pub fn parse(text: &str, zone_name: &str, chosen: OddNights) -> Result<Cron, ScheduleError> {
        let zone = zone(zone_name)?;
        let bad = |reason: String| ScheduleError::BadCron { text: text.to_owned(), reason };
        let fields = Fields::parse(text).map_err(bad)?;
        let pattern = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(fields.both_days)
            .build()
            .parse(&fields.pattern)
            .map_err(|e| bad(e.to_string()))?;
        let (gap, fold) = match fields.one_time {
            true => (Gap::After, Fold::Once),
            false => (Gap::Skip, Fold::Twice),
        };
        Ok(Cron {
            text: text.to_owned(),
            zone_name: zone_name.to_owned(),
            pattern,
            zone,
            days_rule: fields.days_rule(),
            chosen,
            gap: chosen.gap.unwrap_or(gap),
            fold: chosen.fold.unwrap_or(fold),
        })
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// How day of the month and day of the week combine, if both restrict the day.
    pub fn days_rule(&self) -> Option<&'static str> {
        self.days_rule
    }

    /// The first instant after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(after);
        let from = whole_second_after(wall(after, offset)?)?.max(self.repeated_until(after, offset)?);
        let mut found = self.next_on_wall(from)?;
        for transition in self.zone.following(after) {
            let (end, start) =
                (wall(transition.timestamp(), offset)?, wall(transition.timestamp(), transition.offset())?);
            if found < end {
                break;
            }
            offset = transition.offset();
            if found < start && self.gap == Gap::After {
                return Some(transition.timestamp());
            }
            if found < start || (start < end && self.fold == Fold::Twice) {
                found = self.next_on_wall(start)?;
            }
        }
        instant(found, offset)
    }

    /// The last instant at or before `at`. Searches forward from earlier and earlier starts, so that both
    /// directions find the same instants.
    pub fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        let mut span = SECOND;
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

    /// The wall-clock time at which the range repeated by the last transition back ends for `at`, if folds
    /// fire once.
    fn repeated_until(&self, at: Timestamp, offset: Offset) -> Option<Timestamp> {
        let just_after = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at);
        let last = self.zone.preceding(just_after).next().filter(|_| self.fold == Fold::Once);
        let Some(last) = last.map(|transition| transition.timestamp()) else { return Some(Timestamp::MIN) };
        let before =
            last.checked_sub(SignedDuration::from_nanos(1)).map_or(offset, |at| self.zone.to_offset(at));
        wall(last, before.max(offset))
    }

    /// The first match at or after `from`. Both are wall-clock times without a zone.
    fn next_on_wall(&self, from: Timestamp) -> Option<Timestamp> {
        let from = from.to_zoned(TimeZone::UTC);
        self.pattern.find_next_occurrence(&from, true).ok().map(|zoned| zoned.timestamp())
    }
}

/// The wall-clock time, represented as if it were UTC.
fn wall(at: Timestamp, offset: Offset) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_secs(i64::from(offset.seconds()))).ok()
}

fn instant(wall: Timestamp, offset: Offset) -> Option<Timestamp> {
    wall.checked_sub(SignedDuration::from_secs(i64::from(offset.seconds()))).ok()
}

fn whole_second_after(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_millisecond().div_euclid(1_000)).ok()?.checked_add(SECOND).ok()
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} ({}", self.text, self.zone_name)?;
        if let Some(gap) = self.chosen.gap {
            write!(f, ", dst_gap {}", if gap == Gap::After { "after" } else { "skip" })?;
        }
        if let Some(fold) = self.chosen.fold {
            write!(f, ", dst_fold {}", if fold == Fold::Once { "once" } else { "twice" })?;
        }
        f.write_str(")")
    }
}
