//! Scalar keys of a section as a table. A row reads, checks and shows one key, so a new key needs its row, its
//! field, and its lines in docs/configuration.md and docs/tidemill.example.toml.

use std::time::Duration;

use jiff::SignedDuration;

use super::error::Mistaken;
use super::reader::Section;

/// Minimum of intervals, retention times and time limits.
pub const TIME_MIN: SignedDuration = SignedDuration::from_millis(100);

/// A key of a section that fills a `T`.
pub struct Key<T> {
    pub name: &'static str,
    /// Keeps the default if the section does not have the key.
    pub read: fn(&mut Section<'_>, &mut T),
    /// The value as it is written in the file; `None` if it is not set.
    pub show: fn(&T) -> Option<String>,
}

pub fn read<T>(keys: &[Key<T>], section: &mut Section<'_>, values: &mut T) {
    for key in keys {
        (key.read)(section, values);
    }
}

pub fn show<T>(keys: &[Key<T>], values: &T) -> Vec<(&'static str, String)> {
    keys.iter().filter_map(|key| Some((key.name, (key.show)(values)?))).collect()
}

/// A row for a field, with the expressions that read and show its value.
macro_rules! row {
    ($name:literal, $($field:ident).+, |$section:ident| $read:expr, |$value:ident| $show:expr) => {
        $crate::config::keys::Key {
            name: $name,
            read: |$section, values| {
                if let Some(value) = $read {
                    values.$($field).+ = value;
                }
            },
            show: |values| {
                let $value = &values.$($field).+;
                Some($show)
            },
        }
    };
}

/// A whole number in a range. The range fits the field, so the cast is lossless.
macro_rules! count {
    ($name:literal, $($field:ident).+, $range:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| section.count($name, $range).map(|found| found.value as _), |value| value.to_string())
    };
}

/// A whole number in a range, or the word "unbounded".
macro_rules! count_or_unbounded {
    ($name:literal, $($field:ident).+, $range:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| {
                let found = section.count_or($name, $range, "unbounded");
                found.map(|found| found.value.map(|value| value as _))
            },
            |value| value.map_or($crate::config::keys::quoted("unbounded"), |value| value.to_string()))
    };
}

/// A number in a range.
macro_rules! number {
    ($name:literal, $($field:ident).+, $range:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| section.number($name, $range).map(|found| found.value), |value| value.to_string())
    };
}

macro_rules! flag {
    ($name:literal, $($field:ident).+) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| section.flag($name).map(|found| found.value), |value| value.to_string())
    };
}

/// One of a few keywords.
macro_rules! word {
    ($name:literal, $($field:ident).+, $words:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| section.word($name, &$words).map(|found| found.value),
            |value| $crate::config::keys::quoted($crate::config::keys::word_of(&$words, value)))
    };
}

/// A text that `$check` accepts.
macro_rules! text {
    ($name:literal, $($field:ident).+, $check:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| section.text($name).and_then(|found| section.checked(found, $check)),
            |value| $crate::config::keys::quoted(value))
    };
}

/// A size in bytes that `$check` accepts.
macro_rules! bytes {
    ($name:literal, $($field:ident).+, $check:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| {
                let bytes = section.bytes($name).and_then(|found| section.checked(found, |bytes| ($check)(*bytes)));
                bytes.map(|bytes| bytes as _)
            },
            |value| $crate::config::keys::quoted($crate::config::text::show_bytes(*value as u64)))
    };
}

/// A time that `$check` accepts.
macro_rules! time {
    ($name:literal, $($field:ident).+, $check:expr) => {
        $crate::config::keys::row!($name, $($field).+,
            |section| {
                let time = section.duration($name).and_then(|found| section.checked(found, |time| ($check)(*time)));
                time.map($crate::config::keys::Time::of)
            },
            |value| $crate::config::keys::quoted($crate::config::keys::show_time(*value)))
    };
}

/// A folder, which the file may give relative to its own.
macro_rules! folder {
    ($name:literal, $($field:ident).+) => {
        $crate::config::keys::Key {
            name: $name,
            read: |section, values| values.$($field).+ = section.path($name, &values.$($field).+),
            show: |values| Some($crate::config::keys::quoted(values.$($field).+.display())),
        }
    };
}

pub(super) use {bytes, count, count_or_unbounded, flag, folder, number, row, text, time, word};

/// The type of a field for a time.
pub trait Time: Copy {
    fn of(time: SignedDuration) -> Self;
    fn signed(self) -> SignedDuration;
}

impl Time for SignedDuration {
    fn of(time: SignedDuration) -> SignedDuration {
        time
    }

    fn signed(self) -> SignedDuration {
        self
    }
}

impl Time for Duration {
    fn of(time: SignedDuration) -> Duration {
        time.unsigned_abs()
    }

    fn signed(self) -> SignedDuration {
        SignedDuration::try_from(self).unwrap_or(SignedDuration::MAX)
    }
}

pub fn show_time(time: impl Time) -> String {
    format!("{:#}", time.signed())
}

/// A TOML text with quotes, backslashes and control characters escaped.
pub fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

pub fn word_of<'a, T: PartialEq>(words: &[(&'a str, T)], value: &T) -> &'a str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

pub fn at_least(time: SignedDuration, least: SignedDuration) -> Result<(), Mistaken> {
    if time < least {
        return Err((format!("{time:#} is too short"), format!("use at least \"{least:#}\"")));
    }
    Ok(())
}
