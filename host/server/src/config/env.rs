//! `TIDEMILL__SECTION__KEY` lays over the file. Names that cannot be a key here are found later, with the file's own.

use std::ffi::OsString;

use super::error::{Mistake, Place};
use super::raw::{self, Entry, Table, Value};

const PREFIX: &str = "TIDEMILL__";

/// The variables that speak to us.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub Vec<(String, OsString)>);

impl Environment {
    pub fn of_process() -> Environment {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(PREFIX).then_some((name, value))
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort();
        Environment(ours)
    }
}

/// Puts each variable at its place in `root`.
pub fn overlay(root: &mut Table, environment: &Environment) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (name, value) in &environment.0 {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let at = Place::Variable(name.clone());
        let segments: Vec<&str> = path.split("__").collect();
        let result = match value.to_str() {
            None => Err(("the value is not UTF-8".to_owned(), "write it in UTF-8".to_owned())),
            Some(text) => set(root, &segments, "", &at, text),
        };
        if let Err((what, remedy)) = result {
            mistakes.push(Mistake { at, key: String::new(), what, remedy });
        }
    }
    mistakes
}

fn set(
    table: &mut Table,
    segments: &[&str],
    path: &str,
    at: &Place,
    text: &str,
) -> Result<(), (String, String)> {
    let [first, rest @ ..] = segments else {
        return Ok(());
    };
    let key = find(table, first, path)?;
    let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
    if rest.is_empty() {
        table.insert(key, Entry { at: at.clone(), value: Value::Text(text.to_owned()) });
        return Ok(());
    }
    let empty = || Entry { at: at.clone(), value: Value::Table(Table::new()) };
    let entry = table.entry(key).or_insert_with(empty);
    // A shorter variable may have given the whole table as text.
    if let (Value::Text(text), Place::Variable(_)) = (&entry.value, &entry.at)
        && let Ok(value @ Value::Table(_)) = raw::parse_value(text, &entry.at)
    {
        entry.value = value;
    }
    match &mut entry.value {
        Value::Table(inner) => set(inner, rest, &full, at, text),
        other => Err((
            format!("{full} is {}, so it holds no key {:?}", other.kind(), rest.join(".").to_lowercase()),
            "shorten the variable's name, or write a table in the file".to_owned(),
        )),
    }
}

/// The key that a segment means: an existing one, where case, `-` and `_` do not matter, or a new one.
/// Jobs are not made by variables: their names could not be told from the segment.
fn find(table: &Table, segment: &str, path: &str) -> Result<String, (String, String)> {
    if segment.is_empty() {
        return Err((
            "a part of the name is empty".to_owned(),
            "use TIDEMILL__SECTION__KEY, with two underscores between the parts".to_owned(),
        ));
    }
    let wanted = plain(segment);
    let mut matching = table.keys().filter(|key| plain(key) == wanted);
    match (matching.next(), matching.next()) {
        (Some(first), Some(second)) => Err((
            format!("it can mean {path}.{first} and {path}.{second}"),
            "rename one of the two".to_owned(),
        )),
        (Some(key), None) => Ok(key.clone()),
        (None, _) if path == "jobs" => Err((
            format!("no job is named {:?}", segment.to_lowercase()),
            "add the job to the file first; in a variable's name its - becomes _".to_owned(),
        )),
        (None, _) => Ok(segment.to_lowercase()),
    }
}

fn plain(key: &str) -> String {
    key.to_lowercase().replace('-', "_")
}
