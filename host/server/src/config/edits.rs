//! Settings made over the API override the file and the variables.

use store::jobs::edits::Edit;

use super::error::{Mistake, SourceLocation};
use super::toml_tree::{Entry, Table, Value};

/// Keys that only the file can set: they select the plugin and limit its access.
pub const FIXED: [&str; 3] = ["plugin", "grants", "limits"];

/// Inserts each setting at its key. A setting of a job that is missing in the file is ignored until
/// the job comes back.
pub fn overlay(root: &mut Table, edits: &[Edit]) -> Vec<Mistake> {
    let Some(Entry { value: Value::Table(jobs), .. }) = root.get_mut("jobs") else { return Vec::new() };
    let mut mistakes = Vec::new();
    for edit in edits {
        let Some(Entry { value: Value::Table(job), .. }) = jobs.get_mut(&edit.job) else { continue };
        let at = SourceLocation::Edit(edit.by.clone());
        let put = match serde_json::from_str(&edit.value) {
            Ok(value) => {
                of_json(value, &at).and_then(|value| put(job, &edit.key, Entry { at: at.clone(), value }))
            }
            Err(error) => Err(format!("its value is no JSON: {error}")),
        };
        if let Err(what) = put {
            let (key, remedy) = (format!("jobs.{}.{}", edit.job, edit.key), "clear it".to_owned());
            mistakes.push(Mistake { at, key, what, remedy });
        }
    }
    mistakes
}

fn put(table: &mut Table, key: &str, entry: Entry) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), entry);
        return Ok(());
    };
    let at = entry.at.clone();
    let inner =
        table.entry(first.to_owned()).or_insert_with(|| Entry { at, value: Value::Table(Table::new()) });
    match &mut inner.value {
        Value::Table(inner) => put(inner, rest, entry),
        other => Err(format!("{first} is {}, so it holds no key {rest:?}", other.kind())),
    }
}

fn of_json(value: serde_json::Value, at: &SourceLocation) -> Result<Value, String> {
    use serde_json::Value as Json;
    let entry = |value| Ok(Entry { at: at.clone(), value: of_json(value, at)? });
    Ok(match value {
        Json::Null => return Err("null is no value".to_owned()),
        Json::Bool(flag) => Value::Boolean(flag),
        Json::String(text) => Value::Text(text),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number.into()),
            None => Value::Float(exact(&number)?),
        },
        Json::Array(list) => Value::List(list.into_iter().map(entry).collect::<Result<_, String>>()?),
        Json::Object(table) => {
            let entries = table.into_iter().map(|(key, value)| Ok((key, entry(value)?)));
            Value::Table(entries.collect::<Result<_, String>>()?)
        }
    })
}

/// Above this value, not every whole number has an exact float.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A number with a fraction. A whole number outside of `i64` would be rounded.
fn exact(number: &serde_json::Number) -> Result<f64, String> {
    let float = number.as_f64().filter(|float| float.is_finite() && float.abs() <= EXACT_MAX);
    float.ok_or_else(|| format!("{number} is too large to be kept exactly: write it as text"))
}
