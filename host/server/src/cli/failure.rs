//! Why a command failed.

use crate::config::ConfigError;

/// The text contains the remedy.
#[derive(Debug)]
pub enum Failure {
    Usage(String),
    Failed(String),
    /// All output is on stdout already.
    Told,
}

impl Failure {
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure::Failed(text.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Failed(format!("{error:#}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Usage(error.to_string())
    }
}
