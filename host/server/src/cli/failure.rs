//! Why a command failed, and its exit code.

use crate::config::ConfigError;

/// The command was refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage or configuration. Clap uses the same number.
pub const EXIT_USAGE: u8 = 2;

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
