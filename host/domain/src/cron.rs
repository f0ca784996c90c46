//! Cron texts in a time zone, with a stated rule for the two odd nights of the year.
//!
//! What the fields mean is decided by [`fields`]; `croner` matches them on plain wall-clock time. What the zone makes of
//! it is decided here:
//! between two transitions the offset is constant, so wall clock and instant differ by a constant; at a transition
//! forward a piece of wall clock is missing (gap), at one back a piece comes twice (fold).

mod fields;

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use self::fields::Fields;
use crate::schedule::ScheduleError;
use crate::zone::zone;

/// How far back a cron's last instant is looked for: 29 February on one day of the week comes every 28 years.
const LOOK_BACK_MAX: SignedDuration = SignedDuration::from_hours(24 * 366 * 60);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// What becomes of times that a transition forward leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// They fire once, together, at the gap's end.
    After,
    Skip,
}

/// What becomes of times that a transition back repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// They fire in the first pass only.
    Once,
    Twice,
}

/// An admin's word; what is left open goes by the text: one time of day (one second, minute and hour) fires after
/// the gap and once in the fold; all else goes on by the wall clock, without a gap's times and twice in a fold.
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

    /// How the day of the month and the day of the week go together, if both restrict the day.
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

    /// The last instant at or before `at`. Looks ahead from ever earlier, so that both directions find the same ones.
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

    /// Where the wall clock stands when `at` is over what the last transition back repeats, if that fires once.
    fn repeated_until(&self, at: Timestamp, offset: Offset) -> Option<Timestamp> {
        let just_after = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at);
        let last = self.zone.preceding(just_after).next().filter(|_| self.fold == Fold::Once);
        let Some(last) = last.map(|transition| transition.timestamp()) else { return Some(Timestamp::MIN) };
        let before =
            last.checked_sub(SignedDuration::from_nanos(1)).map_or(offset, |at| self.zone.to_offset(at));
        wall(last, before.max(offset))
    }

    /// The first match at or after `from`, both as a wall clock that knows no zone.
    fn next_on_wall(&self, from: Timestamp) -> Option<Timestamp> {
        let from = from.to_zoned(TimeZone::UTC);
        self.pattern.find_next_occurrence(&from, true).ok().map(|zoned| zoned.timestamp())
    }
}

/// What the wall clock shows, as if it were UTC's.
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
