//! Statements that `describe` declares, by their names. All of an attempt run in one transaction per datasource.
//!
//! ```ignore
//! for row in sql::query("incomplete-users", &params![after, limit])? {
//!     let user: i64 = row.get("user_id")?;
//! }
//! ```

pub use crate::bindings::tidemill::job::sql::Value;
pub use crate::params;

use std::rc::Rc;

use crate::Failure;
use crate::bindings::tidemill::job::sql::{self, Error};

/// The rows of a statement that reads.
pub fn query(statement: &str, params: &[Value]) -> Result<Vec<Row>, Failure> {
    let result = sql::query(statement, params).map_err(|error| failure(statement, error))?;
    let columns: Rc<[String]> = result.columns.into();
    Ok(result.rows.into_iter().map(|values| Row { columns: columns.clone(), values }).collect())
}

/// Runs a statement that changes data and returns the number of changed rows.
pub fn execute(statement: &str, params: &[Value]) -> Result<u64, Failure> {
    sql::execute(statement, params).map_err(|error| failure(statement, error))
}

/// Errors that can pass without intervention are transient; errors that need a person are permanent.
fn failure(statement: &str, error: Error) -> Failure {
    let at = |reason: String| format!("statement {statement:?}: {reason}");
    match error {
        Error::Unavailable(reason) => Failure::transient("sql-unavailable", at(reason)),
        Error::Database(reason) => Failure::transient("sql-database", at(reason)),
        Error::Limit(reason) => Failure::transient("sql-limit", at(reason)),
        Error::Other(reason) => Failure::transient("sql-other", at(reason)),
        Error::Denied(reason) => Failure::permanent("sql-denied", at(reason)),
        Error::UnknownStatement(reason) => Failure::permanent("sql-unknown-statement", at(reason)),
    }
}

/// One row of a result.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// The value of a column, by its name. `Option<T>` accepts NULL.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, Failure> {
        let Some(index) = self.columns.iter().position(|name| name == column) else {
            let columns = self.columns.join(", ");
            return Err(Failure::permanent(
                "sql-column",
                format!("no column {column:?} in the result; it has {columns}"),
            ));
        };
        let value = self.values.get(index).unwrap_or(&Value::Null);
        T::from_value(value).ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            Failure::permanent(
                "sql-column",
                format!("column {column:?} holds {value:?}, which is not a {wanted}"),
            )
        })
    }
}

/// Types that a column can be read as.
pub trait FromValue: Sized {
    /// `None` if the value has another type.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Real(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes.clone()) } else { None }
    }
}

/// SQLite has no booleans, so 0 and 1 are accepted too.
impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Boolean(truth) => Some(*truth),
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Parameters `$1, $2 …` of a statement: `&params![user_id, "pending"]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { [$($crate::sql::Value::from($value)),*] };
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Value, failure};
    use crate::Failure;
    use crate::bindings::tidemill::job::sql::Error;

    fn row(column: &str, value: Value) -> Row {
        Row { columns: vec![column.to_owned()].into(), values: vec![value] }
    }

    #[test]
    fn columns_are_read_by_name_and_kind() {
        assert_eq!(row("n", Value::Integer(7)).get::<i64>("n"), Ok(7));
        assert_eq!(row("n", Value::Null).get::<Option<i64>>("n"), Ok(None));
        assert_eq!(row("n", Value::Integer(1)).get::<bool>("n"), Ok(true));
    }

    #[test]
    fn a_missing_column_and_a_wrong_kind_name_the_column() {
        for found in [row("n", Value::Integer(7)).get::<i64>("m"), row("m", Value::Null).get::<i64>("m")] {
            let Err(Failure::Permanent(error)) = found else { panic!("not a permanent failure") };
            assert_eq!(error.code, "sql-column");
            assert!(error.message.contains("\"m\""), "{}", error.message);
        }
    }

    #[test]
    fn a_database_that_is_away_is_transient_and_a_missing_grant_is_not() {
        assert!(matches!(failure("s", Error::Unavailable("away".into())), Failure::Transient(_)));
        assert!(matches!(failure("s", Error::Denied("no grant".into())), Failure::Permanent(_)));
    }
}
