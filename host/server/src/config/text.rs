//! Values that are written as text: durations, sizes, rates and database addresses.

use std::path::{Path, PathBuf};

use domain::address::split_file;
use domain::flow::Rate;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use store::opening::sqlite_file::SqliteFile;
use store::store::hide_password;

use super::suggestion::nearest;

pub const DURATION_REMEDY: &str = "use a duration like \"500ms\", \"30s\", \"1h 30m\" or \"7d\"";
pub const BYTES_REMEDY: &str = "use a size like \"64MiB\", \"256KiB\" or \"512B\"";
pub const RATE_REMEDY: &str = "use \"attempts/window\", like \"10/1m\"";
pub const STORE_REMEDY: &str = "use sqlite://path/to/file.db or postgres://user@host/database";

/// A time of this century plus this duration still fits into a timestamp.
const DURATION_MAX: SignedDuration = SignedDuration::from_hours(24 * 36_500);

/// A day is 24 hours here; months and years have no fixed length and are refused.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let bad = |why: String| format!("{text:?} is not a duration: {why}");
    let span: Span = text.trim().parse().map_err(|e: jiff::Error| bad(e.to_string()))?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(bad("months and years have no fixed length".to_owned()));
    }
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|e| bad(e.to_string()))?;
    if duration.is_negative() {
        return Err(bad("it is negative".to_owned()));
    }
    if duration > DURATION_MAX {
        return Err(bad(format!("it is longer than {DURATION_MAX:#}")));
    }
    Ok(duration)
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub fn bytes(text: &str) -> Result<u64, String> {
    let parse = |(unit, size): &(&str, u64)| {
        let number: u64 = text.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*size)
    };
    SIZES.iter().find_map(parse).ok_or_else(|| format!("{text:?} is not a size"))
}

/// Shows a size in the largest unit that divides it.
pub fn show_bytes(bytes: u64) -> String {
    let fits = |(_, size): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*size);
    let (unit, size) = SIZES.iter().find(fits).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

pub fn rate(text: &str) -> Result<Rate, String> {
    let (attempts, window) = text.split_once('/').ok_or_else(|| format!("{text:?} is not a rate"))?;
    let attempts_max: u32 =
        attempts.trim().parse().map_err(|_| format!("{:?} is not a number of attempts", attempts.trim()))?;
    let window = duration(window)?;
    if attempts_max == 0 || window < SignedDuration::from_millis(1) {
        return Err(format!("{text:?} would let nothing run"));
    }
    Ok(Rate { attempts_max, window })
}

/// The address of a database; the path of an SQLite file is made absolute from `folder`.
pub fn database_url(text: &str, folder: &Path) -> Result<String, String> {
    let (scheme, rest) =
        text.split_once(':').ok_or_else(|| format!("{:?} is not a database address", hide_password(text)))?;
    match scheme {
        "sqlite" => {
            let (path, parameters) = split_file(text).unwrap_or_default();
            if path.is_empty() || path == ":memory:" {
                return Err("a database in memory forgets everything at a restart".to_owned());
            }
            check_parameters(parameters, &SQLITE_PARAMETERS).map_err(|what| match path.rsplit('/').next() {
                // The `?` may be part of the file's name.
                Some(name) if !parameters.contains('=') => {
                    format!("{what} (end the address with `?mode=rwc` if {name:?} is only a part of the file's name)")
                }
                _ => what,
            })?;
            Ok(SqliteFile::new(&clean(&folder.join(path)), parameters)?.url())
        }
        "postgres" | "postgresql" if rest.len() > "//".len() && rest.starts_with("//") => {
            let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
            check_parameters(parameters, &POSTGRES_PARAMETERS)?;
            Ok(text.to_owned())
        }
        "postgres" | "postgresql" => Err(format!("{:?} names no host", hide_password(text))),
        other => Err(format!("the scheme {other:?} is not supported")),
    }
}

/// A parameter of a database's address, and its allowed values; an empty list allows any value.
pub type Parameter = (&'static str, &'static [&'static str]);

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const POSTGRES_PARAMETERS: [Parameter; 18] = [
    ("sslmode", &SSL_MODES),
    ("ssl-mode", &SSL_MODES),
    ("sslrootcert", &[]),
    ("ssl-root-cert", &[]),
    ("ssl-ca", &[]),
    ("statement-cache-capacity", &[]),
    ("sslcert", &[]),
    ("ssl-cert", &[]),
    ("sslkey", &[]),
    ("ssl-key", &[]),
    ("host", &[]),
    ("hostaddr", &[]),
    ("port", &[]),
    ("dbname", &[]),
    ("user", &[]),
    ("password", &[]),
    ("application_name", &[]),
    ("options", &[]),
];
const SQLITE_PARAMETERS: [Parameter; 4] = [
    ("mode", &["ro", "rw", "rwc"]),
    ("cache", &["shared", "private"]),
    ("immutable", &["true", "false", "1", "0"]),
    ("vfs", &[]),
];

/// Drivers ignore unknown parameters, so they are refused here. Errors contain no values,
/// which may be secrets.
pub fn check_parameters(query: &str, known: &[Parameter]) -> Result<(), String> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err("a parameter of the address has no value".to_owned());
        };
        // Like `options[search_path]`.
        let base = name.split('[').next().unwrap_or(name);
        let Some((_, values)) = known.iter().find(|(known, _)| *known == base) else {
            let remedy = match (nearest(name, &names), names.is_empty()) {
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, true) => "it has none, use the keys of the section instead".to_owned(),
                (None, false) => format!("known are {}", names.join(", ")),
            };
            return Err(format!("the address has no parameter {name:?}: {remedy}"));
        };
        if !values.is_empty() && !values.contains(&value.to_ascii_lowercase().as_str()) {
            return Err(format!("the parameter {name:?} has another value than {}", values.join(", ")));
        }
    }
    Ok(())
}

/// Resolves `.` and `..` in a path without access to the disk: the file may not exist yet.
pub fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}
