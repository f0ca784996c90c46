//! `schedule = { … }` of a job: when it is due, and the policies for due instants.

use domain::schedule::cron::{Fold, Gap, OddNights};
use domain::schedule::tick::{CatchUp, Overlap, TickPolicy};
use domain::schedule::zone::{UnknownZone, zone_remedy};
use domain::schedule::{Schedule, ScheduleError};
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::reader::{Located, Section};

pub const OVERLAP: [(&str, Overlap); 4] = [
    ("skip", Overlap::Skip),
    ("buffer-one", Overlap::BufferOne),
    ("cancel-other", Overlap::CancelOther),
    ("allow", Overlap::Allow),
];
pub const GAP: [(&str, Gap); 2] = [("after", Gap::After), ("skip", Gap::Skip)];
pub const FOLD: [(&str, Fold); 2] = [("once", Fold::Once), ("twice", Fold::Twice)];
const CATCH_UP: [(&str, CatchUp); 3] =
    [("none", CatchUp::None), ("last", CatchUp::Last), ("all", CatchUp::All(CATCH_UP_MAX_DEFAULT))];
const CATCH_UP_MAX_DEFAULT: u32 = 10;
const CATCH_UP_MAX: u64 = 100;
/// Maximum of interval, window, deadline and jitter: a longer one is a mistake.
const SPAN_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

/// Returns `None` if no valid time is set; the mistake is reported.
pub fn read(job: &mut Section<'_>, now: Timestamp) -> Option<(Schedule, TickPolicy)> {
    if !job.has("schedule") {
        job.asked("schedule");
        return Some((Schedule::Manual, TickPolicy::default()));
    }
    let mut section = job.section_if("schedule")?;
    let schedule = when(&mut section, now);
    let policy = policy(&mut section);
    section.finish();
    Some((schedule?, policy))
}

fn when(section: &mut Section<'_>, now: Timestamp) -> Option<Schedule> {
    let given: Vec<&str> = ["cron", "every", "at"].into_iter().filter(|key| section.has(key)).collect();
    let (cron, zone, every) = (section.text("cron"), section.text("tz"), section.duration("every"));
    let instants = section.texts("at");
    let nights = OddNights {
        gap: section.word("dst_gap", &GAP).map(|found| found.value),
        fold: section.word("dst_fold", &FOLD).map(|found| found.value),
    };
    match given.as_slice() {
        ["cron"] => by_cron(section, &cron?, zone.as_ref(), nights, now),
        ["every"] => {
            if let Some(zone) = &zone {
                section.blame_found(zone, "an interval has no time zone", "remove tz, or use cron");
            }
            let every = every?;
            if every.value > SPAN_MAX {
                let remedy = format!("use at most \"{SPAN_MAX:#}\", or at");
                section.blame_found(&every, format!("an interval of {:#} is too long", every.value), remedy);
                return None;
            }
            Schedule::every(every.value).map_err(|error| blame(section, &every, &error)).ok()
        }
        ["at"] => at(section, &instants, zone.as_ref()),
        [] => {
            let remedy = "give cron, every or at; leave schedule out for a job that only people start";
            section.blame("", "no time is given", remedy);
            None
        }
        more => {
            section.blame("", format!("{} are both given", more.join(" and ")), "keep one of them");
            None
        }
    }
}

fn by_cron(
    section: &Section<'_>,
    cron: &Located<String>,
    zone: Option<&Located<String>>,
    nights: OddNights,
    now: Timestamp,
) -> Option<Schedule> {
    let zone_name = zone.map_or("UTC", |zone| zone.value.as_str());
    Schedule::cron(&cron.value, zone_name, nights, now)
        .map_err(|error| match (&error, zone) {
            (ScheduleError::UnknownZone(_), Some(zone)) => blame(section, zone, &error),
            _ => blame(section, cron, &error),
        })
        .ok()
}

/// Reads instants, each with its own offset or in the wall clock time of the zone.
fn at(
    section: &Section<'_>,
    instants: &[Located<String>],
    zone: Option<&Located<String>>,
) -> Option<Schedule> {
    let zone_name = zone.map_or("UTC", |zone| zone.value.as_str());
    let in_zone = match domain::schedule::zone::zone(zone_name) {
        Ok(in_zone) => in_zone,
        Err(error) => {
            let error = error.into();
            zone.into_iter().for_each(|zone| blame(section, zone, &error));
            return None;
        }
    };
    let mut parsed = Vec::with_capacity(instants.len());
    for text in instants {
        let civil = || text.value.parse::<DateTime>().and_then(|civil| civil.to_zoned(in_zone.clone()));
        match text.value.parse::<Timestamp>().or_else(|_| civil().map(|zoned| zoned.timestamp())) {
            Ok(instant) => parsed.push(instant),
            Err(_) => {
                let what = format!("{:?} is no instant", text.value);
                let remedy =
                    "write it like \"2026-12-24T18:00:00+01:00\", or like \"2026-12-24 18:00\" with a tz";
                section.blame_found(text, what, remedy);
                return None;
            }
        }
    }
    Schedule::at(parsed)
        .map_err(|error| {
            let (what, remedy) = words(&error);
            section.blame("at", what, remedy);
        })
        .ok()
}

fn policy(section: &mut Section<'_>) -> TickPolicy {
    let mut policy = TickPolicy::default();
    if let Some(found) = section.word("overlap", &OVERLAP) {
        policy.overlap = found.value;
    }
    if let Some(found) = section.word("catch_up", &CATCH_UP) {
        policy.catch_up = found.value;
    }
    if let Some(found) = section.count("catch_up_max", 1..=CATCH_UP_MAX) {
        match &mut policy.catch_up {
            CatchUp::All(most) => *most = u32::try_from(found.value).unwrap_or(CATCH_UP_MAX_DEFAULT),
            _ => section.blame_found(
                &found,
                "only catch_up = \"all\" has a bound",
                "remove it, or set catch_up",
            ),
        }
    }
    let none = "no instant would be caught up with: use catch_up = \"none\" for that";
    policy.catch_up_window = span(section, "catch_up_window", SPAN_MIN, none);
    let late = "every instant would be too late: a tick is found up to a second after its instant";
    policy.start_deadline = span(section, "start_deadline", SPAN_MIN, late);
    policy.jitter = span(section, "jitter", SignedDuration::ZERO, "").unwrap_or(SignedDuration::ZERO);
    policy
}

/// Minimum of window and deadline: the scheduler runs about once a second.
const SPAN_MIN: SignedDuration = SignedDuration::from_secs(1);

fn span(
    section: &mut Section<'_>,
    key: &'static str,
    least: SignedDuration,
    too_short: &str,
) -> Option<SignedDuration> {
    let found = section.duration(key)?;
    if found.value < least {
        section.blame_found(
            &found,
            format!("with {:#} {too_short}", found.value),
            format!("use at least \"{least:#}\""),
        );
        return None;
    }
    if found.value > SPAN_MAX {
        section.blame_found(
            &found,
            format!("{:#} is too long", found.value),
            format!("use at most \"{SPAN_MAX:#}\""),
        );
        return None;
    }
    Some(found.value)
}

fn blame<T>(section: &Section<'_>, found: &Located<T>, error: &ScheduleError) {
    let (what, remedy) = words(error);
    section.blame_found(found, what, remedy);
}

/// Maximum length of a preview.
pub const PREVIEW_MAX: u32 = 1_000;

/// Parses a cron text that is not from a file, as in a preview. The error is one sentence.
pub fn cron(text: &str, zone: &str, nights: OddNights, now: Timestamp) -> Result<Schedule, String> {
    Schedule::cron(text, zone, nights, now).map_err(|error| {
        let (what, remedy) = words(&error);
        format!("{what}; {remedy}")
    })
}

/// Parses one of the keywords of a key, outside of a file.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known = || words.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(" or ");
    let found = words.iter().find(|(known, _)| *known == text);
    found.map(|(_, value)| *value).ok_or_else(|| format!("use {}", known()))
}

/// Describes the problem of a schedule, and the remedy.
fn words(error: &ScheduleError) -> (String, String) {
    match error {
        ScheduleError::BadCron { text, reason } => (
            format!("cron text {text:?} is not valid: {}", reason.trim_end_matches('.')),
            "use 5 or 6 fields like \"*/5 * * * *\", or @daily".to_owned(),
        ),
        ScheduleError::NeverFires(text) => {
            (format!("cron text {text:?} never fires"), "use a day that its month has".to_owned())
        }
        ScheduleError::UnknownZone(UnknownZone(zone)) => {
            (format!("time zone {zone:?} is not known"), zone_remedy(zone))
        }
        ScheduleError::TooOften(interval) => {
            (format!("an interval of {interval} is too short"), "use at least \"1s\"".to_owned())
        }
        ScheduleError::BadInstants => (error.to_string(), "name 1 to 1000 instants".to_owned()),
    }
}
