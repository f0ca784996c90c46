//! The description that a plugin gives, and the host's records of a plugin's versions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, PluginName};
use crate::job::JobSpec;
pub use crate::statement::{ParamType, Statement};

/// The document of `describe()`; its schema is `wit/describe.schema.json`. Unknown fields are ignored: a
/// newer plugin may have fields that this host does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Describe {
    pub name: String,
    pub version: String,
    #[serde(default)]
    pub summary: String,
    /// A JSON schema for the job's config table.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    #[serde(default)]
    pub statements: BTreeMap<String, Statement>,
    #[serde(default)]
    pub topics: Vec<String>,
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Describe {
    pub fn parse(text: &str) -> Result<Describe, String> {
        let describe: Describe = serde_json::from_str(text)
            .map_err(|e| format!("describe() did not answer with a valid document: {e}"))?;
        for (name, statement) in &describe.statements {
            let checked = check_single(&statement.sql).and_then(|()| statement.check_parameters());
            checked.map_err(|e| format!("statement {name:?}: {e}"))?;
        }
        Ok(describe)
    }

    /// The first request of this plugin that `job` does not grant, as a message.
    pub fn asks_too_much(&self, job: &JobSpec) -> Option<String> {
        let sql = self.statements.iter().find_map(|(name, statement)| {
            let why = job.grants.refuses_sql(&statement.datasource, statement.writes)?;
            Some(format!("statement {name:?}: {why}"))
        });
        let topic = || {
            let topic = self.topics.iter().find(|topic| !job.grants.topics.contains(*topic))?;
            Some(format!("topic {topic:?} is not granted"))
        };
        let capability = || {
            let name = self.capabilities.iter().find(|name| !job.grants.capability(name))?;
            Some(format!("capability {name:?} is not granted"))
        };
        sql.or_else(topic).or_else(capability)
    }
}

/// Drivers run every statement of a text, so a second statement could bypass the declaration. A `;` inside a
/// quoted part is allowed, and so is one at the end.
///
/// Quoting depends on the database. Postgres's dollar quotes and escaped quotes are refused. Brackets and
/// backticks quote in SQLite only, so a text has to be one statement in both readings.
fn check_single(sql: &str) -> Result<(), String> {
    let text = sql.trim().trim_end_matches(';');
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains("--") || text.contains("/*") {
        return Err("comments are not allowed".to_owned());
    }
    let small = text.to_lowercase();
    if small.contains("u&\"") || small.contains("u&'") {
        return Err("names and texts in code points (U&) are not allowed".to_owned());
    }
    if text.contains("\\'") {
        return Err("a backslash before a quote is not allowed: pass the text as a parameter".to_owned());
    }
    let plain = unquoted(text, &QUOTES);
    if plain.contains(';') || unquoted(text, &SQLITE_QUOTES).contains(';') {
        return Err("it holds more than one statement".to_owned());
    }
    let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if !["select", "insert", "update", "delete", "with"].contains(&first.as_str()) {
        return Err(format!("{first:?} is not allowed: select, insert, update, delete and with are"));
    }
    if let Some(word) = small.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| is_reserved(word))
    {
        return Err(format!("{word:?} is not for plugins: it reaches past the tables of a business"));
    }
    if names_own_schema(&small) {
        return Err(format!("{OWN_SCHEMA:?} is the host's own schema"));
    }
    if selects_into(&plain.to_lowercase()) {
        return Err("a select that makes a table (into) is not allowed".to_owned());
    }
    if plain.split('$').skip(1).any(|after| !after.starts_with(|c: char| c.is_ascii_digit())) {
        return Err("`$` is for parameters only, as in $1: pass the text as one".to_owned());
    }
    Ok(())
}

/// The schema of the host's own tables on Postgres.
pub const OWN_SCHEMA: &str = "tidemill";

/// Whether the text uses the schema to qualify a name, quoted or not.
fn names_own_schema(small: &str) -> bool {
    let text = small.replace('"', " ");
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(OWN_SCHEMA).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + OWN_SCHEMA.len()..]);
        !before.ends_with(part_of_a_name) && after.trim_start().starts_with('.')
    })
}

/// `SELECT … INTO t` creates a table, and `INTO TEMP t` creates one that hides a table of the same name from
/// the next user of the connection. An INSERT names its table before any SELECT within the same parentheses.
fn selects_into(plain: &str) -> bool {
    let (mut selected, mut outside) = (false, Vec::new());
    let spaced = plain.replace('(', " ( ").replace(')', " ) ");
    for word in spaced.split(|c: char| !(c.is_alphanumeric() || "_()".contains(c))) {
        // A number may directly precede a word.
        let word = if word.ends_with("into") && word.starts_with(|c: char| c.is_ascii_digit()) {
            "into"
        } else {
            word
        };
        match word {
            "(" => outside.push(std::mem::take(&mut selected)),
            ")" => selected = outside.pop().unwrap_or(selected),
            "select" => selected = true,
            "into" if selected => return true,
            _ => {}
        }
    }
    false
}

/// Words that reach beyond the tables of a business: files, other connections, locks and settings that
/// outlast an attempt, and functions that run a text. Also refused inside quotes, because databases disagree
/// on where a quote ends. The database's admin has to limit the role's permissions; this check protects if
/// the role has too many.
fn is_reserved(word: &str) -> bool {
    const STARTS: [&str; 9] = [
        "pg_",
        "sqlite_",
        "pragma_",
        "dblink",
        "query_to_xml",
        "cursor_to_xml",
        "table_to_xml",
        "schema_to_xml",
        "database_to_xml",
    ];
    const WORDS: [&str; 20] = [
        "set_config",
        "current_setting",
        "load_extension",
        "fts3_tokenizer",
        "ts_stat",
        "ts_rewrite",
        "lowrite",
        "loread",
        "lo_import",
        "lo_export",
        "lo_get",
        "lo_put",
        "lo_open",
        "lo_close",
        "lo_creat",
        "lo_create",
        "lo_unlink",
        "lo_from_bytea",
        "lo_truncate",
        "lo_lseek",
    ];
    STARTS.iter().any(|start| word.starts_with(start)) || WORDS.contains(&word)
}

pub(crate) const QUOTES: [(char, char); 2] = [('\'', '\''), ('"', '"')];
pub(crate) const SQLITE_QUOTES: [(char, char); 4] = [('\'', '\''), ('"', '"'), ('`', '`'), ('[', ']')];

/// The text with each quoted part replaced by a space.
pub(crate) fn unquoted(text: &str, quotes: &[(char, char)]) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut until: Option<char> = None;
    for c in text.chars() {
        match until {
            Some(close) if c == close => until = None,
            Some(_) => {}
            None => match quotes.iter().find(|(open, _)| *open == c) {
                Some((_, close)) => {
                    until = Some(*close);
                    outside.push(' ');
                }
                None => outside.push(c),
            },
        }
    }
    outside
}

/// The requests of a version, as they are stored and compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    pub imports: Vec<String>,
    pub statements: BTreeMap<String, Statement>,
    pub topics: Vec<String>,
    pub capabilities: Vec<String>,
    pub config: Option<serde_json::Value>,
}

impl Asks {
    /// The requests that the version before did not have, one line each. Another release of an interface
    /// counts as the same interface.
    pub fn beyond(&self, before: &Asks) -> Vec<String> {
        let interface = |import: &str| import.split('@').next().unwrap_or_default().to_owned();
        let had: Vec<String> = before.imports.iter().map(|import| interface(import)).collect();
        let imports = self.imports.iter().filter(|import| !had.contains(&interface(import)));
        let statements =
            self.statements.iter().filter(|(name, one)| before.statements.get(*name) != Some(one));
        let statement = |(name, one): (&String, &Statement)| {
            let does = if one.writes { "writes to" } else { "reads" };
            let sql = one.sql.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("statement {name:?} {does} {:?}: {sql}", one.datasource)
        };
        let topics = self.topics.iter().filter(|topic| !before.topics.contains(topic));
        let capabilities = self.capabilities.iter().filter(|name| !before.capabilities.contains(name));
        let imports = imports.map(|import| format!("import {import}"));
        imports
            .chain(statements.map(statement))
            .chain(topics.map(|topic| format!("topic {topic:?}")))
            .chain(capabilities.map(|name| format!("capability {name:?}")))
            .collect()
    }
}

/// The state of one version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionState {
    /// New attempts use it.
    Active,
    /// Attempts of some items use it.
    Canary,
    /// It requests more than the active version (one line each) and waits for approval.
    Waiting(String),
    /// It was replaced or its file was removed; running attempts finish on it.
    Retired,
    /// It is not used, and why.
    Rejected(String),
}

impl VersionState {
    pub fn word(&self) -> &'static str {
        match self {
            VersionState::Active => "active",
            VersionState::Canary => "canary",
            VersionState::Waiting(_) => "waiting",
            VersionState::Retired => "retired",
            VersionState::Rejected(_) => "rejected",
        }
    }

    /// The requests that wait for approval, or the reason for the rejection.
    pub fn reason(&self) -> Option<&str> {
        match self {
            VersionState::Waiting(reason) | VersionState::Rejected(reason) => Some(reason),
            _ => None,
        }
    }
}

/// One version of a plugin, as recorded by the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginVersion {
    pub plugin: PluginName,
    pub digest: Digest,
    pub size_bytes: u64,
    /// The version that it reports. Empty if `describe` failed.
    pub version: String,
    pub summary: String,
    /// `None` if `describe` failed.
    pub asks: Option<Asks>,
    pub state: VersionState,
    pub seen_at: Timestamp,
}
