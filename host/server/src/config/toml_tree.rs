//! The text of the file as a tree in which each value has its line. Only the TOML syntax is checked here.
//!
//! It is not a serde mirror: serde stops at the first mistake, and cannot report the place of a value that
//! came from the environment.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Mistake, SourceLocation};

pub type Table = BTreeMap<String, Entry>;

#[derive(Debug, Clone)]
pub struct Entry {
    pub at: SourceLocation,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    /// Numbers that do not fit are set to the end of the range: each use checks a narrower range.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Date(String),
    List(Vec<Entry>),
    Table(Table),
}

impl Value {
    /// The kind as text, for "expected …, found …".
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "true or false",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Parses a whole file. All syntax errors are reported, but no other mistakes, because the text after an
/// invalid line can be misread.
pub fn parse(text: &str) -> Result<Table, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let place = |at: usize| SourceLocation::Line(line_of(text, at));
        return Ok(table_of(table.into_inner(), &place));
    }
    let mistakes = errors.iter().map(|error| {
        let at =
            error.span().map_or(SourceLocation::File, |span| SourceLocation::Line(line_of(text, span.start)));
        let what = format!("not valid TOML: {}", error.message());
        Mistake { at, key: String::new(), what, remedy: remedy(error.message()).to_owned() }
    });
    Err(mistakes.collect())
}

/// Parses a list or a table from an environment variable.
pub fn parse_value(text: &str, at: &SourceLocation) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|e| e.message().to_owned())?;
    Ok(value_of(value.into_inner(), &|_| at.clone()))
}

fn remedy(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        return "keep one of the two";
    }
    "write texts in quotes and sections in [brackets]; docs/tidemill.example.toml shows every key"
}

fn table_of(table: DeTable<'_>, place: &dyn Fn(usize) -> SourceLocation) -> Table {
    let entries = table.into_iter().map(|(key, value)| {
        let at = place(key.span().start);
        (key.into_inner().into_owned(), Entry { at, value: value_of(value.into_inner(), place) })
    });
    entries.collect()
}

fn value_of(value: DeValue<'_>, place: &dyn Fn(usize) -> SourceLocation) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            let end = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
            Value::Integer(parsed.unwrap_or(end))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(list) => Value::List(list.into_iter().map(|e| entry_of(e, place)).collect()),
        DeValue::Table(table) => Value::Table(table_of(table, place)),
    }
}

fn entry_of(value: Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> SourceLocation) -> Entry {
    Entry { at: place(value.span().start), value: value_of(value.into_inner(), place) }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
