//! The SQL statements that plugins declare: the number of their parameters, and the values that a call may
//! pass.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::sql_text::{QUOTES, SQLITE_QUOTES, check_single, unquoted};
use crate::value::Value;

/// More than any database supports.
const PARAMETERS_MAX: usize = 32_766;

/// One SQL statement that a plugin declares. No other SQL can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub datasource: String,
    pub sql: String,
    #[serde(default)]
    pub writes: bool,
    /// The types of its parameters, if declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<ParamType>>,
}

/// The type of a parameter. NULL belongs to each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    Boolean,
    Integer,
    Real,
    Text,
    Blob,
}

impl ParamType {
    fn of(value: &Value) -> Option<ParamType> {
        match value {
            Value::Null => None,
            Value::Boolean(_) => Some(ParamType::Boolean),
            Value::Integer(_) => Some(ParamType::Integer),
            Value::Real(_) => Some(ParamType::Real),
            Value::Text(_) => Some(ParamType::Text),
            Value::Blob(_) => Some(ParamType::Blob),
        }
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParamType::Boolean => "boolean",
            ParamType::Integer => "integer",
            ParamType::Real => "real",
            ParamType::Text => "text",
            ParamType::Blob => "blob",
        })
    }
}

impl Statement {
    /// The number of parameters: `$1` to `$n`, each used at least once.
    pub fn parameters(&self) -> Result<usize, String> {
        parameters(&unquoted(&self.sql, &QUOTES))
    }

    /// The same as read by SQLite, where brackets and backticks quote and other characters begin parameters.
    pub fn parameters_on_sqlite(&self) -> Result<usize, String> {
        let plain = unquoted(&self.sql, &SQLITE_QUOTES);
        if let Some(mark) = plain.chars().find(|c| ['?', ':', '@', '#'].contains(c)) {
            return Err(format!("{mark:?} begins a parameter in SQLite: parameters are $1, $2 …"));
        }
        parameters(&plain)
    }

    /// Checks the text and its parameters as far as possible without a database.
    pub(super) fn check(&self) -> Result<(), String> {
        check_single(&self.sql)?;
        let number = self.parameters()?;
        match &self.params {
            Some(params) if params.len() != number => {
                Err(format!("its SQL has {}, and `params` declares {}", counted(number), params.len()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a call of the statement `name` may pass these values.
    pub fn accepts(&self, name: &str, values: &[Value]) -> Result<(), String> {
        let wanted = self.parameters()?;
        if values.len() != wanted {
            let given = values.len();
            return Err(format!("statement {name:?} has {}, and {given} were given", counted(wanted)));
        }
        let declared = self.params.iter().flatten().zip(values).enumerate();
        for (at, (declared, value)) in declared {
            if let Some(given) = ParamType::of(value).filter(|given| given != declared) {
                let number = at + 1;
                return Err(format!(
                    "${number} of statement {name:?} is declared as {declared}, and {given} was given"
                ));
            }
        }
        Ok(())
    }
}

fn counted(number: usize) -> String {
    if number == 1 { "1 parameter".to_owned() } else { format!("{number} parameters") }
}

fn parameters(plain: &str) -> Result<usize, String> {
    let mut seen = BTreeSet::new();
    let mut pieces = plain.split('$').skip(1).peekable();
    while let Some(after) = pieces.next() {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, rest) = after.split_at(digits);
        let number = digits.parse().ok().filter(|number| (1..=PARAMETERS_MAX).contains(number));
        // A name that begins with digits is one parameter to SQLite, and two tokens to Postgres; so is
        // `$1$2`.
        let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let is_followed = rest.is_empty() && pieces.peek().is_some();
        let number = number.filter(|_| !goes_on && !is_followed && !digits.starts_with('0'));
        seen.insert(number.ok_or_else(|| {
            let word: String =
                after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').take(20).collect();
            format!("${word} is no parameter of its own: they are $1, $2 …")
        })?);
    }
    match (1..=seen.len()).find(|number| !seen.contains(number)) {
        Some(missing) => {
            let last = seen.last().copied().unwrap_or_default();
            Err(format!(
                "it has a parameter ${last}, and no ${missing}: parameters are numbered from $1 without a gap"
            ))
        }
        None => Ok(seen.len()),
    }
}
