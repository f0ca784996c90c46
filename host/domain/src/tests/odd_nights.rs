//! Cron texts around every transition of every zone, compared with an oracle that checks each minute.

use std::collections::BTreeSet;

use expect_test::expect;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::at;
use crate::schedule::cron::{Cron, Fold, Gap, OddNights};

/// A text, whether it names one time of the day, and its meaning as an independent function.
type Pattern = (&'static str, bool, fn(hour: i64, minute: i64) -> bool);
const PATTERNS: [Pattern; 5] = [
    ("30 2 * * *", true, |hour, minute| (hour, minute) == (2, 30)),
    ("0 0 * * *", true, |hour, minute| (hour, minute) == (0, 0)),
    ("*/20 * * * *", false, |_, minute| minute % 20 == 0),
    ("10,40 1-3 * * *", false, |hour, minute| [10, 40].contains(&minute) && (1..=3).contains(&hour)),
    ("0 */2 * * *", false, |hour, minute| minute == 0 && hour % 2 == 0),
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Transition {
    at: Timestamp,
    before: i64,
    after: i64,
}

fn minutes(offset: Offset) -> Option<i64> {
    let seconds = i64::from(offset.seconds());
    (seconds % 60 == 0).then_some(seconds / 60)
}

/// The transitions that move the clock by whole minutes, each once, with one zone that has it.
fn transitions(from: Timestamp, until: Timestamp) -> Vec<(Transition, TimeZone)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in jiff::tz::db().available() {
        let zone = TimeZone::get(name.as_str()).unwrap();
        let mut before = zone.to_offset(from);
        for transition in zone.following(from).take_while(|transition| transition.timestamp() < until) {
            let after = std::mem::replace(&mut before, transition.offset());
            let (Some(before), Some(after)) = (minutes(after), minutes(transition.offset())) else {
                continue;
            };
            let transition = Transition { at: transition.timestamp(), before, after };
            if before != after && seen.insert(transition.clone()) {
                found.push((transition, zone.clone()));
            }
        }
    }
    found
}

/// Each minute within `hours` before and after the transition, with the wall-clock time (minutes since 1970).
fn wall_clock(transition: &Transition, hours: i64) -> Vec<(Timestamp, i64)> {
    let minute = transition.at.as_second() / 60;
    let shown = |n: i64| if n < minute { transition.before } else { transition.after };
    let range = minute - hours * 60..minute + hours * 60;
    range.map(|n| (Timestamp::from_second(n * 60).unwrap(), n + shown(n))).collect()
}

fn expected(
    walls: &[(Timestamp, i64)],
    matches: impl Fn(i64) -> bool,
    gap: Gap,
    fold: Fold,
) -> Vec<Timestamp> {
    let mut fired = Vec::new();
    let mut highest = i64::MIN;
    for (instant, wall) in walls {
        let left_out = highest.saturating_add(1).max(*wall - 24 * 60)..*wall;
        let after_gap = highest != i64::MIN && gap == Gap::After && left_out.clone().any(&matches);
        let again = *wall <= highest && fold == Fold::Once;
        if after_gap || (matches(*wall) && !again) {
            fired.push(*instant);
        }
        highest = highest.max(*wall);
    }
    fired
}

fn check(
    (text, one_time, matches): Pattern,
    transition: &Transition,
    zone: &TimeZone,
    chosen: OddNights,
) -> Result<(), String> {
    let hours = (transition.before - transition.after).abs() / 60 + 3;
    let walls = wall_clock(transition, hours);
    let others = |at: &Timestamp| *at != transition.at && *at > walls[0].0 && *at < walls[walls.len() - 1].0;
    if zone.preceding(transition.at).next().is_some_and(|other| others(&other.timestamp()))
        || zone.following(transition.at).next().is_some_and(|other| others(&other.timestamp()))
    {
        // Two transitions at once: the oracle handles only one.
        return Ok(());
    }
    let name = zone.iana_name().unwrap();
    let gap = chosen.gap.unwrap_or(if one_time { Gap::After } else { Gap::Skip });
    let fold = chosen.fold.unwrap_or(if one_time { Fold::Once } else { Fold::Twice });
    let on_wall = |wall: i64| matches(wall.rem_euclid(24 * 60) / 60, wall.rem_euclid(60));
    let expected = expected(&walls, on_wall, gap, fold);
    let cron = Cron::parse(text, name, chosen).unwrap();
    let (first, last) = (walls[0].0 - SignedDuration::from_millis(1), walls[walls.len() - 1].0);
    let next = std::iter::successors(cron.next_after(first), |at| cron.next_after(*at));
    let fired: Vec<Timestamp> = next.take_while(|at| *at <= last).collect();
    if fired == expected {
        return Ok(());
    }
    Err(format!("{cron} around {}: fires {fired:?}, should {expected:?}\n", transition.at))
}

/// With the default rule of each text: every transition of every zone from 1970 to 2040.
#[test]
fn all_transitions_of_all_zones() {
    let all = transitions(at("1970-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    assert!(all.len() > 5_000, "{}", all.len());
    let mut wrong = String::new();
    for (number, (transition, zone)) in all.iter().enumerate() {
        let pattern = PATTERNS[number % PATTERNS.len()];
        wrong.extend(check(pattern, transition, zone, OddNights::default()).err());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// With each explicit rule and each text: the transitions of two years.
#[test]
fn all_rules() {
    let all = transitions(at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
    let mut wrong = String::new();
    for (transition, zone) in &all {
        for pattern in PATTERNS {
            for gap in [Gap::After, Gap::Skip] {
                for fold in [Fold::Once, Fold::Twice] {
                    let chosen = OddNights { gap: Some(gap), fold: Some(fold) };
                    wrong.extend(check(pattern, transition, zone, chosen).err());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_rule_that_was_chosen_is_shown() {
    let chosen = OddNights { gap: Some(Gap::Skip), fold: Some(Fold::Twice) };
    let cron = Cron::parse("30 2 * * *", "Europe/Berlin", chosen).unwrap();
    expect!["cron 30 2 * * * (Europe/Berlin, dst_gap skip, dst_fold twice)"].assert_eq(&cron.to_string());
    let next = |from| cron.next_after(at(from)).unwrap().to_string();
    assert_eq!(next("2026-03-28T12:00:00Z"), "2026-03-30T00:30:00Z", "not on the 29th");
    assert_eq!(next("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z", "and once more");
}
