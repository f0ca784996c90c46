//! Results of a benchmark: one JSON line each, on stdout and in `target/bench/NAME.json`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host;

/// The folder of results, installed peers and data of running benchmarks.
pub fn folder(root: &Path) -> PathBuf {
    host::target(root).join("bench")
}

pub struct Results(File);

impl Results {
    /// Replaces the results of an earlier run.
    pub fn new(root: &Path, name: &str) -> Result<Self> {
        let folder = folder(root);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let path = folder.join(format!("{name}.json"));
        let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self(file))
    }

    pub fn add(&mut self, fields: &[(&str, Value)]) -> Result<()> {
        let line = line(fields);
        println!("{line}");
        writeln!(self.0, "{line}").context("failed to write a result")
    }
}

/// An object whose fields keep their order.
fn line(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// A rounded figure; `null` if there is none.
pub fn rounded(value: Option<f64>, digits: u32) -> Value {
    let Some(value) = value.filter(|value| value.is_finite()) else { return Value::Null };
    let factor = f64::from(10_u32.pow(digits));
    let rounded = (value * factor).round() / factor;
    // Without the `.0` that JSON would show.
    if digits == 0 { Value::from(rounded as i64) } else { Value::from(rounded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_json_in_the_given_order() {
        let fields = [("b", rounded(Some(1234.56), 0)), ("a", rounded(Some(0.66666), 3)), ("c", Value::Null)];
        let line = line(&fields);
        assert_eq!(line, r#"{"b":1235,"a":0.667,"c":null}"#);
        assert!(serde_json::from_str::<Value>(&line).is_ok());
    }

    #[test]
    fn figures_that_do_not_exist_are_null() {
        assert_eq!(rounded(None, 1), Value::Null);
        assert_eq!(rounded(Some(f64::INFINITY), 1), Value::Null);
    }
}
