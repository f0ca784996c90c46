//! Reads values from the tree by key and kind. Mistakes are collected, so that all are reported at once. Keys
//! that were never read are reported as unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use super::error::{Mistake, Mistaken, SourceLocation};
use super::suggestion::nearest;
use super::text;
use super::toml_tree::{self, Entry, Table, Value};

#[derive(Debug, Default)]
pub struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    pub fn add(&self, at: &SourceLocation, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let mistake =
            Mistake { at: at.clone(), key: key.to_owned(), what: what.into(), remedy: remedy.into() };
        self.0.borrow_mut().push(mistake);
    }

    pub fn extend(&self, mistakes: Vec<Mistake>) {
        self.0.borrow_mut().extend(mistakes);
    }

    fn are_about(&self, key: &str) -> bool {
        self.0.borrow().iter().any(|mistake| mistake.key == key)
    }

    pub fn into_vec(self) -> Vec<Mistake> {
        self.0.into_inner()
    }
}

/// A value with its place, so that later checks can report it.
#[derive(Debug, Clone)]
pub struct Located<T> {
    pub value: T,
    pub at: SourceLocation,
    pub key: String,
}

/// A table that is being read.
pub struct Section<'m> {
    pub at: SourceLocation,
    pub path: String,
    entries: Table,
    asked: Vec<&'static str>,
    /// The places of the keys that were read.
    places: BTreeMap<&'static str, SourceLocation>,
    /// Of the file; paths may be relative to it.
    pub folder: &'m Path,
    mistakes: &'m Mistakes,
}

impl<'m> Section<'m> {
    pub fn root(entries: Table, folder: &'m Path, mistakes: &'m Mistakes) -> Section<'m> {
        let (at, path) = (SourceLocation::File, String::new());
        Section { at, path, entries, asked: Vec::new(), places: BTreeMap::new(), folder, mistakes }
    }

    pub fn key(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// Reports a mistake of the section itself, at its key `name`.
    pub fn blame(&self, name: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.add(&self.at, &self.key(name), what, remedy);
    }

    pub fn blame_found<T>(&self, found: &Located<T>, what: impl Into<String>, remedy: impl Into<String>) {
        self.mistakes.add(&found.at, &found.key, what, remedy);
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Marks a key as known without reading it.
    pub fn asked(&mut self, name: &'static str) {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
    }

    /// Marks a key as known and ignores its value.
    pub fn skip(&mut self, name: &'static str) {
        self.take(name);
    }

    /// Reports a known key that is not allowed together with the others.
    pub fn refuse(&mut self, name: &'static str, what: &str, remedy: &str) {
        if let Some(found) = self.take(name) {
            self.blame_found(&found, what, remedy);
        }
    }

    pub fn mistakes(&self) -> &'m Mistakes {
        self.mistakes
    }

    fn take(&mut self, name: &'static str) -> Option<Located<Value>> {
        self.asked(name);
        let Entry { at, value } = self.entries.remove(name)?;
        self.places.insert(name, at.clone());
        Some(Located { value, at, key: self.key(name) })
    }

    /// The place of a key that was read without a mistake.
    pub fn given(&self, name: &str) -> Option<Located<()>> {
        let (at, key) = (self.places.get(name)?.clone(), self.key(name));
        (!self.mistakes.are_about(&key)).then_some(Located { value: (), at, key })
    }

    /// The value, unless `check` reports a mistake.
    pub fn checked<T>(&self, found: Located<T>, check: impl Fn(&T) -> Result<(), Mistaken>) -> Option<T> {
        match check(&found.value) {
            Ok(()) => Some(found.value),
            Err((what, remedy)) => {
                self.blame_found(&found, what, remedy);
                None
            }
        }
    }

    fn wrong_kind<T>(&self, found: &Located<Value>, expected: &str, remedy: &str) -> Option<T> {
        let what = format!("expected {expected}, found {}", found.value.kind());
        self.mistakes.add(&found.at, &found.key, what, remedy);
        None
    }

    pub fn text(&mut self, name: &'static str) -> Option<Located<String>> {
        let found = self.take(name)?;
        match found.value {
            Value::Text(text) => Some(Located { value: text, at: found.at, key: found.key }),
            _ => self.wrong_kind(&found, "text", "put it in quotes"),
        }
    }

    /// A path, which the file may give relative to its folder.
    pub fn path(&mut self, name: &'static str, default: &Path) -> PathBuf {
        let found = self.text(name);
        if let Some(found) = found.as_ref().filter(|found| found.value.trim().is_empty()) {
            self.blame_found(found, "the path is empty", format!("name a folder, like {default:?}"));
        }
        text::clean(&self.folder.join(found.as_ref().map_or(default, |found| Path::new(&found.value))))
    }

    /// Reads a text with `parse`; its error is reported as a mistake with `remedy`.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let found = self.take(name)?;
        let Value::Text(text) = &found.value else {
            return self.wrong_kind(&found, "text", remedy);
        };
        match parse(text) {
            Ok(value) => Some(Located { value, at: found.at, key: found.key }),
            Err(what) => {
                self.mistakes.add(&found.at, &found.key, what, remedy);
                None
            }
        }
    }

    pub fn duration(&mut self, name: &'static str) -> Option<Located<SignedDuration>> {
        self.parsed(name, text::DURATION_REMEDY, text::duration)
    }

    pub fn bytes(&mut self, name: &'static str) -> Option<Located<u64>> {
        self.parsed(name, text::BYTES_REMEDY, text::bytes)
    }

    /// Reads one of a few keywords.
    pub fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<Located<T>> {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.parsed(name, &format!("use {}", all.join(" or ")), |text| {
            let word = words.iter().find(|(word, _)| *word == text);
            word.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is not known"))
        })
    }

    pub fn count(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let found = self.take(name)?;
        let remedy = format!("use a whole number from {} to {}", range.start(), range.end());
        let Some(number) = whole(&found) else {
            return self.wrong_kind(&found, "a whole number", &remedy);
        };
        match u64::try_from(number).ok().filter(|value| range.contains(value)) {
            Some(value) => Some(Located { value, at: found.at, key: found.key }),
            None => {
                let what = format!("{} is out of range", shown(number));
                self.mistakes.add(&found.at, &found.key, what, remedy);
                None
            }
        }
    }

    /// Like [`Section::count`], but also accepts `word` as "no limit".
    pub fn count_or(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        word: &str,
    ) -> Option<Located<Option<u64>>> {
        let is_word = |entry: &Entry| matches!(&entry.value, Value::Text(text) if text == word);
        if self.entries.get(name).is_some_and(is_word) {
            return self.take(name).map(|f| Located { value: None, at: f.at, key: f.key });
        }
        if let Some(Entry { at: SourceLocation::File | SourceLocation::Line(_), value: Value::Text(text) }) =
            self.entries.get(name)
        {
            let what = format!("{text:?} is neither a number nor {word:?}");
            let found = self.take(name)?;
            let remedy = format!("use a whole number from {} to {}, or {word:?}", range.start(), range.end());
            self.mistakes.add(&found.at, &found.key, what, remedy);
            return None;
        }
        let found = self.count(name, range)?;
        Some(Located { value: Some(found.value), at: found.at, key: found.key })
    }

    pub fn number(&mut self, name: &'static str, range: RangeInclusive<f64>) -> Option<Located<f64>> {
        let found = self.take(name)?;
        let remedy = format!("use a number from {} to {}", range.start(), range.end());
        let number = match (&found.value, &found.at) {
            (Value::Float(number), _) => *number,
            (Value::Integer(number), _) => *number as f64,
            (Value::Text(text), SourceLocation::Variable(_)) => text.parse().unwrap_or(f64::NAN),
            _ => return self.wrong_kind(&found, "a number", &remedy),
        };
        if !range.contains(&number) {
            self.mistakes.add(&found.at, &found.key, format!("{number} is out of range"), remedy);
            return None;
        }
        Some(Located { value: number, at: found.at, key: found.key })
    }

    pub fn flag(&mut self, name: &'static str) -> Option<Located<bool>> {
        let found = self.take(name)?;
        let value = match (&found.value, &found.at) {
            (Value::Boolean(flag), _) => Some(*flag),
            (Value::Text(text), SourceLocation::Variable(_)) => text.parse().ok(),
            _ => None,
        };
        match value {
            Some(value) => Some(Located { value, at: found.at, key: found.key }),
            None => self.wrong_kind(&found, "true or false", "use true or false, without quotes"),
        }
    }

    pub fn texts(&mut self, name: &'static str) -> Vec<Located<String>> {
        let Some(found) = self.take(name) else {
            return Vec::new();
        };
        let found = self.structured(found);
        let Value::List(list) = found.value else {
            self.wrong_kind::<()>(&found, "a list of texts", "use a list like [\"a\", \"b\"]");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for Entry { at, value } in list {
            match value {
                Value::Text(value) => texts.push(Located { value, at, key: found.key.clone() }),
                other => {
                    let what = format!("expected text in the list, found {}", other.kind());
                    self.mistakes.add(&at, &found.key, what, "put it in quotes");
                }
            }
        }
        texts
    }

    /// The table `name`, or an empty one if it is missing.
    pub fn section(&mut self, name: &'static str) -> Section<'m> {
        self.section_if(name).unwrap_or_else(|| self.inner(name, self.at.clone(), Table::new()))
    }

    pub fn section_if(&mut self, name: &'static str) -> Option<Section<'m>> {
        let found = self.take(name)?;
        let found = self.structured(found);
        let Value::Table(entries) = found.value else {
            let remedy = format!("use a section [{}] or {{ key = value }}", found.key);
            return self.wrong_kind(&found, "a table", &remedy);
        };
        Some(self.inner(name, found.at, entries))
    }

    /// Returns each remaining entry as a table: for tables whose keys are names.
    pub fn sections(mut self) -> Vec<(String, Section<'m>)> {
        let mut sections = Vec::new();
        for (name, Entry { at, value }) in std::mem::take(&mut self.entries) {
            let found = self.structured(Located { key: self.key(&name), at, value });
            match found.value {
                Value::Table(entries) => {
                    sections.push((name.clone(), self.inner(&name, found.at, entries)));
                }
                _ => {
                    let remedy = format!("use a section [{}]", found.key);
                    self.wrong_kind::<()>(&found, "a table", &remedy);
                }
            }
        }
        sections
    }

    /// Returns each remaining entry unchanged: for tables with arbitrary keys.
    pub fn free(mut self) -> BTreeMap<String, Located<Value>> {
        let entries = std::mem::take(&mut self.entries);
        let found = entries.into_iter().map(|(name, Entry { at, value })| {
            let key = self.key(&name);
            (name, Located { value, at, key })
        });
        found.collect()
    }

    /// Reports the remaining keys as unknown.
    pub fn finish(self) {
        for (name, entry) in &self.entries {
            let remedy = match nearest(name, &self.asked) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("remove it; known here: {}", self.asked.join(", ")),
            };
            self.mistakes.add(&entry.at, &self.key(name), "there is no such key", remedy);
        }
    }

    fn inner(&self, name: &str, at: SourceLocation, entries: Table) -> Section<'m> {
        let (path, folder) = (self.key(name), self.folder);
        Section {
            at,
            path,
            entries,
            asked: Vec::new(),
            places: BTreeMap::new(),
            folder,
            mistakes: self.mistakes,
        }
    }

    /// Parses a list or a table from the text of a variable.
    fn structured(&self, found: Located<Value>) -> Located<Value> {
        match (&found.value, &found.at) {
            (Value::Text(text), SourceLocation::Variable(_)) => match toml_tree::parse_value(text, &found.at)
            {
                Ok(value) => Located { value, ..found },
                Err(_) => found,
            },
            _ => found,
        }
    }
}

fn whole(found: &Located<Value>) -> Option<i128> {
    match (&found.value, &found.at) {
        (Value::Integer(number), _) => Some(*number),
        (Value::Text(text), SourceLocation::Variable(_)) => text.parse().ok(),
        _ => None,
    }
}

/// Numbers at the end of the range represent larger ones that do not fit.
fn shown(number: i128) -> String {
    if number == i128::MAX || number == i128::MIN {
        return "the number".to_owned();
    }
    number.to_string()
}
