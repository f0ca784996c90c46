//! A row of either database, read by column name.

use std::str::FromStr;
use std::sync::Arc;

use domain::scope::Value;
use jiff::Timestamp;

use crate::error::StoreError;

#[derive(Debug, Clone)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub fn new(columns: Arc<[String]>, values: Vec<Value>) -> Row {
        Row { columns, values }
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Size of its values in bytes.
    pub fn bytes(&self) -> usize {
        self.values.iter().map(Value::bytes).sum()
    }

    fn value(&self, column: &str) -> Result<&Value, StoreError> {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.values.get(at)).ok_or_else(|| corrupt(column, "is missing"))
    }

    pub fn int(&self, column: &str) -> Result<i64, StoreError> {
        match self.value(column)? {
            Value::Integer(number) => Ok(*number),
            other => Err(corrupt(column, &format!("is no number: {other:?}"))),
        }
    }

    /// Whether the column is the boolean true.
    pub fn is_true(&self, column: &str) -> bool {
        matches!(self.value(column), Ok(Value::Boolean(true)))
    }

    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        if matches!(self.value(column)?, Value::Null) {
            return Ok(None);
        }
        self.int(column).map(Some)
    }

    pub fn count(&self, column: &str) -> Result<u32, StoreError> {
        let number = self.int(column)?;
        u32::try_from(number).map_err(|_| corrupt(column, &format!("is out of range: {number}")))
    }

    pub fn text(&self, column: &str) -> Result<String, StoreError> {
        self.opt_text(column)?.ok_or_else(|| corrupt(column, "is null"))
    }

    pub fn opt_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.clone())),
            other => Err(corrupt(column, &format!("is no text: {other:?}"))),
        }
    }

    pub fn parse<T: FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|e: T::Err| corrupt(column, &e.to_string()))
    }

    pub fn opt_parse<T: FromStr<Err: std::fmt::Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        let text = self.opt_text(column)?;
        let parse = |text: String| text.parse().map_err(|e: T::Err| corrupt(column, &e.to_string()));
        text.map(parse).transpose()
    }

    pub fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.opt_time(column)?.ok_or_else(|| corrupt(column, "is null"))
    }

    pub fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        if *self.value(column)? == Value::Null {
            return Ok(None);
        }
        let millis = self.int(column)?;
        Timestamp::from_millisecond(millis).map(Some).map_err(|e| corrupt(column, &e.to_string()))
    }

    pub fn blob(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.opt_blob(column)?.ok_or_else(|| corrupt(column, "is null"))
    }

    pub fn opt_blob(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes.clone())),
            other => Err(corrupt(column, &format!("is no blob: {other:?}"))),
        }
    }
}

/// The rows that can be decoded. A damaged row must hold up only what it belongs to.
#[derive(Debug)]
pub struct Decoded<C> {
    pub rows: C,
    /// Why one of the missing rows cannot be decoded.
    pub error: Option<StoreError>,
}

impl<C: Default + Extend<T>, T> FromIterator<Result<T, StoreError>> for Decoded<C> {
    fn from_iter<I: IntoIterator<Item = Result<T, StoreError>>>(rows: I) -> Decoded<C> {
        let mut decoded = Decoded { rows: C::default(), error: None };
        for row in rows {
            match row {
                Ok(row) => decoded.rows.extend([row]),
                Err(error) => decoded.error = Some(error),
            }
        }
        decoded
    }
}

fn corrupt(column: &str, what: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} {what}"))
}
