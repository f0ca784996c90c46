//! The description that a plugin gives, and the host's records of a plugin's versions.

mod sql_text;
mod statement;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::sql_text::OWN_SCHEMA;
pub use self::statement::{ParamType, Statement};
use crate::id::{Digest, PluginName};
use crate::job::JobSpec;

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
            statement.check().map_err(|e| format!("statement {name:?}: {e}"))?;
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
            let granted = |name: &String| job.grants.capabilities.iter().any(|one| one.as_str() == name);
            let name = self.capabilities.iter().find(|name| !granted(name))?;
            Some(format!("capability {name:?} is not granted"))
        };
        sql.or_else(topic).or_else(capability)
    }
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
