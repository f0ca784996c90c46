//! `TIDEMILL__SECTION__KEY` overrides the file, and so do variables that the file's `[environment]` maps to
//! keys. Unknown keys are reported later, together with the file's own.

use std::ffi::OsString;

use super::error::{Mistake, SourceLocation};
use super::toml_tree::{self, Entry, Table, Value};

const PREFIX: &str = "TIDEMILL__";

/// The variables of the process. Those of this program are selected by name.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub Vec<(String, OsString)>);

impl Environment {
    pub fn of_process() -> Environment {
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut named: Vec<_> = named.collect();
        named.sort();
        Environment(named)
    }

    /// Whether any variable has this program's prefix.
    pub fn speaks(&self) -> bool {
        self.0.iter().any(|(name, _)| name.starts_with(PREFIX))
    }

    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// The table of the file that maps variables to keys.
const MAPPED: &str = "environment";
const MAPPED_REMEDY: &str =
    "write NAME = \"section.key\", or \"section.key as {}m\" where the value needs a unit";

/// Removes `[environment]` from `root`, and sets the mapped keys for each named variable that is set.
pub fn overlay_mapped(root: &mut Table, environment: &Environment) -> Vec<Mistake> {
    let Some(entry) = root.remove(MAPPED) else { return Vec::new() };
    let mistake = |at: SourceLocation, key: &str, what: String, remedy: &str| Mistake {
        at,
        key: key.to_owned(),
        what,
        remedy: remedy.to_owned(),
    };
    let Value::Table(mapped) = entry.value else {
        let what = format!("expected a table, found {}", entry.value.kind());
        return vec![mistake(entry.at, MAPPED, what, MAPPED_REMEDY)];
    };
    let mut mistakes = Vec::new();
    for (name, entry) in mapped {
        let key = format!("{MAPPED}.{name}");
        let targets = match entry.value {
            Value::List(list) => list,
            value => vec![Entry { at: entry.at, value }],
        };
        for target in targets {
            let Value::Text(target_text) = &target.value else {
                let what = format!("expected a key as text, found {}", target.value.kind());
                mistakes.push(mistake(target.at, &key, what, MAPPED_REMEDY));
                continue;
            };
            let Some(value) = environment.get(&name) else { continue };
            let at = SourceLocation::Variable(name.clone());
            let result = match value.to_str() {
                None => Err(("the value is not UTF-8".to_owned(), "write it in UTF-8".to_owned())),
                Some(text) => put(root, target_text, &at, text),
            };
            if let Err((what, remedy)) = result {
                mistakes.push(mistake(at, "", what, &remedy));
            }
        }
    }
    mistakes
}

/// `target` is a key, optionally followed by ` as ` and a template for the value.
fn put(root: &mut Table, target: &str, at: &SourceLocation, text: &str) -> Result<(), (String, String)> {
    let (path, text) = match target.split_once(" as ") {
        None => (target, text.to_owned()),
        Some((path, template)) if template.contains("{}") => (path, template.replace("{}", text)),
        Some((_, template)) => {
            return Err((format!("{template:?} has no {{}} for the value"), MAPPED_REMEDY.to_owned()));
        }
    };
    let segments: Vec<&str> = path.trim().split('.').collect();
    set(root, &segments, "", at, &text)
}

/// Sets the key of each variable in `root`.
pub fn overlay(root: &mut Table, environment: &Environment) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (name, value) in &environment.0 {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let at = SourceLocation::Variable(name.clone());
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
    at: &SourceLocation,
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
    // A variable with a shorter name may have set the whole table as text.
    if let (Value::Text(text), SourceLocation::Variable(_)) = (&entry.value, &entry.at)
        && let Ok(value @ Value::Table(_)) = toml_tree::parse_value(text, &entry.at)
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

/// The key that a segment names: an existing one, ignoring case, `-` and `_`, or a new one. Variables cannot
/// create jobs, because a segment does not determine a job's name.
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
