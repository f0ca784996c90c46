//! The fields of a cron text, with the meaning they have in cronie (crontab(5)).
//!
//! A text is rewritten as plain lists of numbers, so that its meaning is decided here; `croner` only matches
//! them. Texts that cron accepts but that cannot be meant, like a step larger than its range, are refused
//! with a correct alternative.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Longest text that is parsed.
const TEXT_BYTES_MAX: usize = 1_000;

/// A cron text as lists of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// Second, minute, hour, day of the month, month and day of the week, for `croner`.
    pub pattern: String,
    /// Whether a day has to match both the day of the month and the day of the week: true if one of them
    /// begins with `*`. Otherwise one match is enough.
    pub both_days: bool,
    /// Whether it names exactly one second, one minute and one hour.
    pub one_time: bool,
}

/// The values that a field may have.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
    unit: &'static str,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const fn field(name: &'static str, min: u32, max: u32, unit: &'static str) -> Field {
    Field { name, min, max, names: &[], unit }
}

const FIELDS: [Field; 6] = [
    field("second", 0, 59, "s"),
    field("minute", 0, 59, "m"),
    field("hour", 0, 23, "h"),
    field("day of the month", 1, 31, "d"),
    Field { names: &MONTHS, ..field("month", 1, 12, "") },
    Field { names: &DAYS, ..field("day of the week", 0, 7, "") },
];
const DAY_OF_MONTH: usize = 3;
const DAY_OF_WEEK: usize = 5;

/// The names that cronie knows, without `@reboot`.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Fields {
    /// The error explains the problem and gives a correct alternative.
    pub fn parse(text: &str) -> Result<Fields, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("it has more than {TEXT_BYTES_MAX} bytes"));
        }
        if text.contains(['\n', '\r']) {
            return Err("it has several lines".to_owned());
        }
        let text = text.trim();
        let text = if text.starts_with('@') { named(text)? } else { text };
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let fields = match parts.len() {
            5 => &FIELDS[1..],
            6 => &FIELDS[..],
            number => return Err(format!("it has {number} fields, not 5, or 6 with the second first")),
        };
        let mut lists = Vec::with_capacity(FIELDS.len());
        if parts.len() == 5 {
            lists.push(vec!["0".to_owned()]);
        }
        for (field, part) in fields.iter().zip(&parts) {
            lists.push(list(field, part).map_err(|why| format!("{} {part:?}: {why}", field.name))?);
        }
        let one_time = lists.iter().take(DAY_OF_MONTH).all(|list| list.len() == 1);
        let star =
            |from_end: usize| parts.iter().rev().nth(from_end).is_some_and(|part| part.starts_with('*'));
        let both_days = star(0) || star(2);
        let plain: Vec<String> = (0..).zip(&lists).map(|(at, list)| written(at, list)).collect();
        Ok(Fields { pattern: plain.join(" "), both_days, one_time })
    }
}

impl Fields {
    /// The rule as text, if both fields restrict the day.
    pub fn days_rule(&self) -> Option<&'static str> {
        let days: Vec<&str> = self.pattern.split(' ').collect();
        let restricts = |at: usize| days.get(at).is_some_and(|days| *days != "*");
        if !restricts(DAY_OF_MONTH) || !restricts(DAY_OF_WEEK) {
            return None;
        }
        Some(match self.both_days {
            true => {
                "fires on days that match both the day of the month and the day of the week: one of them begins with *"
            }
            false => {
                "fires on days that match the day of the month or the day of the week: none of them begins with *"
            }
        })
    }
}

/// If all days are listed, writes `*`, which `croner` treats as no restriction.
fn written(at: usize, list: &[String]) -> String {
    let all = match at {
        DAY_OF_MONTH => 31,
        DAY_OF_WEEK => 7,
        _ => usize::MAX,
    };
    if list.len() == all { "*".to_owned() } else { list.join(",") }
}

fn named(text: &str) -> Result<&'static str, String> {
    let word = text.split_ascii_whitespace().next().unwrap_or(text).to_ascii_lowercase();
    if word == "@every" {
        let interval = text.get(word.len()..).unwrap_or_default().trim();
        let interval = if interval.is_empty() { "5m" } else { interval };
        return Err(format!("an interval is no cron text: write every = {interval:?} in place of cron"));
    }
    if word == "@reboot" {
        let why = "a job has no start of a machine: write every = \"5m\" or the like in place of cron, or leave the \
                   schedule out and start the job with `tidemill jobs trigger`";
        return Err(why.to_owned());
    }
    if let Some((_, fields)) = NAMED.iter().find(|(name, _)| *name == text.to_ascii_lowercase()) {
        return Ok(fields);
    }
    let known: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    Err(format!("{word:?} is not known: write {}", known.join(", ")))
}

/// The numbers of a field, sorted, followed by the entries that only `croner` understands (`L`, `15W`,
/// `5#2`).
fn list(field: &Field, part: &str) -> Result<Vec<String>, String> {
    let mut numbers = BTreeSet::new();
    let mut others = Vec::new();
    for entry in part.split(',') {
        if entry.is_empty() {
            return Err("the list has an empty entry: remove the comma".to_owned());
        }
        match extension(field, entry)? {
            Some(other) => others.push(other),
            None => numbers.extend(range(field, entry)?),
        }
    }
    // Sunday is 0 and 7.
    if field.is_day_of_week() && numbers.remove(&7) {
        numbers.insert(0);
    }
    Ok(numbers.iter().map(u32::to_string).chain(others).collect())
}

impl Field {
    fn is_day_of_week(&self) -> bool {
        self.names.len() == DAYS.len()
    }

    fn is_day_of_month(&self) -> bool {
        self.max == 31
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.names.iter().position(|name| *name == lower) {
            // Months count from 1, days from 0.
            return Ok(u32::try_from(at).unwrap_or(0) + self.min);
        }
        if let Some(name) = self.names.iter().find(|name| lower.starts_with(**name)) {
            return Err(format!("{text:?} is not known: write {name:?}"));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| digits);
        match number {
            Some(number) if (self.min..=self.max).contains(&number) => Ok(number),
            Some(_) => Err(format!("{text} is not between {} and {}", self.min, self.max)),
            None if digits => Err(format!("{text} is not between {} and {}", self.min, self.max)),
            None => Err(format!("{text:?} is neither a number{}", self.or_name())),
        }
    }

    fn or_name(&self) -> String {
        match self.names {
            [first, second, ..] => format!(" nor a name like {first:?} or {second:?}"),
            _ => " nor *, a range (1-5) or a step (*/5)".to_owned(),
        }
    }
}

/// `*`, a number or a range, and the step after it.
fn range(field: &Field, entry: &str) -> Result<Vec<u32>, String> {
    if entry.contains('~') {
        return Err(
            "a random time is not supported: write a number, and jitter = \"10m\" beside cron".to_owned()
        );
    }
    let (span, step) = match entry.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (entry, None),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" => (field.min, if field.is_day_of_week() { 6 } else { field.max }),
        Some((low, high)) => (field.number(low)?, field.number(high)?),
        None => {
            let number = field.number(span)?;
            if let Some(step) = step {
                let max = if field.is_day_of_week() { 6 } else { field.max };
                return Err(format!("a step needs a range: write {number}-{max}/{step}, or {number}"));
            }
            (number, number)
        }
    };
    if low > high {
        return Err(backwards(field, low, high));
    }
    let Some(step) = step else { return Ok((low..=high).collect()) };
    let digits = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let step: u32 =
        step.parse().ok().filter(|_| digits).ok_or_else(|| format!("{step:?} is no step: write a number"))?;
    if step == 0 {
        return Err("a step of 0 goes nowhere: write a step of at least 1".to_owned());
    }
    if step > high - low {
        return Err(too_wide(field, low, step, span == "*"));
    }
    Ok((low..=high).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect())
}

/// The error for a range that wraps around, like 22-2 or sat-mon.
fn backwards(field: &Field, low: u32, high: u32) -> String {
    let (min, max) = (field.min, if field.is_day_of_week() { 6 } else { field.max });
    let span = |from: u32, to: u32| if from == to { from.to_string() } else { format!("{from}-{to}") };
    if field.is_day_of_week() && high == 0 {
        return format!("the range goes backwards: write {low}-7, Sunday is 0 and 7");
    }
    format!("the range goes backwards: write {},{}", span(low, max.max(low)), span(min, high))
}

fn too_wide(field: &Field, low: u32, step: u32, whole: bool) -> String {
    let mut why = format!("a step of {step} reaches no second value: write {low}");
    if whole && !field.unit.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(why, ", or every = \"{step}{}\" in place of cron", field.unit);
    }
    why
}

/// Extensions to cronie's syntax: `L` and `15W` as days of the month, `fri#2` and `friL` as days of the week.
fn extension(field: &Field, entry: &str) -> Result<Option<String>, String> {
    let upper = entry.to_ascii_uppercase();
    let refused = |what: &str| Err(format!("{entry:?} is not {what}"));
    if field.is_day_of_month() {
        if upper == "L" || upper == "LW" {
            return Ok(Some(upper));
        }
        let Some(day) = upper.strip_suffix('W') else { return Ok(None) };
        return match field.number(day) {
            Ok(day) => Ok(Some(format!("{day}W"))),
            Err(_) => refused("a working day: write it like 15W"),
        };
    }
    if !field.is_day_of_week() {
        return Ok(None);
    }
    let day = |text: &str| field.number(text).map(|day| day % 7);
    if let Some((weekday, nth)) = upper.split_once('#') {
        return match (day(weekday), nth) {
            (Ok(weekday), "1" | "2" | "3" | "4" | "5") => Ok(Some(format!("{weekday}#{nth}"))),
            _ => refused("a day of the week in a month: write it like fri#2"),
        };
    }
    let last = upper.strip_suffix('L').filter(|weekday| !weekday.is_empty());
    match last.map(day) {
        Some(Ok(weekday)) => Ok(Some(format!("{weekday}L"))),
        Some(Err(_)) | None => Ok(None),
    }
}
