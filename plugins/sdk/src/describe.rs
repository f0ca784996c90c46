use serde_json::{Map, Value, json};

/// The document that [`crate::Job::describe`] returns. Its schema is `wit/describe.schema.json`.
#[derive(Clone, Debug)]
pub struct Describe {
    name: String,
    version: String,
    summary: Option<String>,
    config: Option<Value>,
    statements: Map<String, Value>,
    topics: Vec<String>,
    capabilities: Vec<String>,
}

/// The type of a parameter. NULL belongs to each type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    Boolean,
    Integer,
    Real,
    Text,
    Blob,
}

impl ParamType {
    fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Blob => "blob",
        }
    }
}

impl Describe {
    /// Usually called by [`crate::describe!`], which takes both from the plugin's Cargo.toml.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: None,
            config: None,
            statements: Map::new(),
            topics: Vec::new(),
            capabilities: Vec::new(),
        }
    }

    /// One sentence for people.
    pub fn summary(mut self, summary: &str) -> Self {
        self.summary = Some(summary.to_owned());
        self
    }

    /// A JSON schema for the job's config. The host validates the config before the plugin is used.
    pub fn config_schema(mut self, schema: Value) -> Self {
        self.config = Some(schema);
        self
    }

    /// A statement that only reads, for [`crate::sql::query`].
    pub fn read(self, name: &str, datasource: &str, sql: &str) -> Self {
        self.statement(name, json!({ "datasource": datasource, "sql": sql }))
    }

    /// A statement that changes data, for [`crate::sql::execute`]. The job needs the grant `read-write`.
    pub fn write(self, name: &str, datasource: &str, sql: &str) -> Self {
        self.statement(name, json!({ "datasource": datasource, "sql": sql, "writes": true }))
    }

    /// The types of the parameters `$1, $2 …` of a declared statement. The host then refuses calls with other
    /// types. Without them, it checks only the number of parameters.
    pub fn params(mut self, statement: &str, types: &[ParamType]) -> Self {
        if let Some(statement) = self.statements.get_mut(statement) {
            statement["params"] = types.iter().map(|one| one.word()).collect();
        }
        self
    }

    fn statement(mut self, name: &str, statement: Value) -> Self {
        self.statements.insert(name.to_owned(), statement);
        self
    }

    /// A topic to which the job publishes events.
    pub fn topic(mut self, name: &str) -> Self {
        self.topics.push(name.to_owned());
        self
    }

    /// Requests the job's own key-value store, [`crate::kv`].
    pub fn keyvalue(self) -> Self {
        self.capability("keyvalue")
    }

    /// Requests to raise alerts, [`crate::alerts`].
    pub fn alerts(self) -> Self {
        self.capability("alerts")
    }

    /// Requests to write audit records, [`crate::audit`].
    pub fn audit(self) -> Self {
        self.capability("audit")
    }

    /// Requests to set metrics, [`crate::metrics`].
    pub fn metrics(self) -> Self {
        self.capability("metrics")
    }

    fn capability(mut self, name: &str) -> Self {
        self.capabilities.push(name.to_owned());
        self
    }

    /// The document as text, without the parts that were not set.
    pub fn into_json(self) -> String {
        let mut document = Map::new();
        document.insert("name".into(), self.name.into());
        document.insert("version".into(), self.version.into());
        if let Some(summary) = self.summary {
            document.insert("summary".into(), summary.into());
        }
        if let Some(config) = self.config {
            document.insert("config".into(), config);
        }
        if !self.statements.is_empty() {
            document.insert("statements".into(), self.statements.into());
        }
        if !self.topics.is_empty() {
            document.insert("topics".into(), self.topics.into());
        }
        if !self.capabilities.is_empty() {
            document.insert("capabilities".into(), self.capabilities.into());
        }
        Value::Object(document).to_string()
    }
}

/// A [`Describe`] with the name and version of the plugin's Cargo.toml and a summary.
#[macro_export]
macro_rules! describe {
    ($summary:expr) => {
        $crate::Describe::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).summary($summary)
    };
}

#[cfg(test)]
mod tests {
    use super::{Describe, ParamType};
    use serde_json::{Value, json};

    #[test]
    fn fields_that_were_not_requested_are_omitted() {
        let document: Value = serde_json::from_str(&Describe::new("a", "1").into_json()).unwrap();
        assert_eq!(document, json!({ "name": "a", "version": "1" }));
    }

    #[test]
    fn a_full_document_has_the_fields_of_the_schema() {
        let document = Describe::new("a", "1")
            .summary("Does a.")
            .config_schema(json!({ "type": "object" }))
            .read("find", "business", "SELECT 1")
            .write("keep", "business", "DELETE FROM t WHERE id = $1 AND name = $2")
            .params("keep", &[ParamType::Integer, ParamType::Text])
            .topic("Done")
            .keyvalue()
            .alerts()
            .audit()
            .metrics()
            .into_json();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(
            document,
            json!({
                "name": "a",
                "version": "1",
                "summary": "Does a.",
                "config": { "type": "object" },
                "statements": {
                    "find": { "datasource": "business", "sql": "SELECT 1" },
                    "keep": { "datasource": "business", "sql": "DELETE FROM t WHERE id = $1 AND name = $2", "writes": true, "params": ["integer", "text"] },
                },
                "topics": ["Done"],
                "capabilities": ["keyvalue", "alerts", "audit", "metrics"],
            })
        );
    }
}
