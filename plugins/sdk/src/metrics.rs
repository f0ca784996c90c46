//! Metrics for `/metrics`, published once the attempt's outcome is committed. The host adds the label `job`.

use crate::Failure;
use crate::bindings::tidemill::job::metrics::{self, Error};

/// Adds to a counter; by convention its name ends in `_total`.
pub fn add(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), Failure> {
    metrics::add(name, &owned(labels), by).map_err(|error| failure(name, error))
}

/// Sets a gauge.
pub fn set(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), Failure> {
    metrics::set(name, &owned(labels), value).map_err(|error| failure(name, error))
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn failure(name: &str, error: Error) -> Failure {
    match error {
        Error::Denied(reason) => Failure::permanent("metric-denied", format!("metric {name:?}: {reason}")),
        Error::Name(reason) => Failure::permanent("metric-name", format!("metric {name:?}: {reason}")),
        Error::Limit(reason) => Failure::transient("metric-limit", format!("metric {name:?}: {reason}")),
        Error::Other(reason) => Failure::transient("metric-failed", format!("metric {name:?}: {reason}")),
    }
}
