//! A mistake in the configuration: its place, the problem, and the remedy.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceLocation {
    /// The file as a whole.
    File,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// A person changed it over the API.
    Edit(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    pub at: SourceLocation,
    /// For example `jobs.wallet.schedule.cron`; empty if the mistake has no key.
    pub key: String,
    pub what: String,
    pub remedy: String,
}

/// The problem of a value, and the remedy.
pub type Mistaken = (String, String);

/// All mistakes, in the order of the file.
#[derive(Debug)]
pub struct ConfigError {
    pub file: PathBuf,
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub fn new(file: PathBuf, mut mistakes: Vec<Mistake>) -> ConfigError {
        mistakes.sort();
        mistakes.dedup();
        ConfigError { file, mistakes }
    }

    /// A mistake of the file as a whole.
    pub fn of_file(file: PathBuf, what: String, remedy: &str) -> ConfigError {
        let mistake =
            Mistake { at: SourceLocation::File, key: String::new(), what, remedy: remedy.to_owned() };
        ConfigError { file, mistakes: vec![mistake] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.mistakes.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            match &mistake.at {
                SourceLocation::File => write!(f, "{}: ", self.file.display())?,
                SourceLocation::Line(line) => write!(f, "{}:{line}: ", self.file.display())?,
                SourceLocation::Variable(name) => write!(f, "environment variable {name}: ")?,
                SourceLocation::Edit(by) => write!(f, "set over the API by {by}: ")?,
            }
            if !mistake.key.is_empty() {
                write!(f, "{}: ", mistake.key)?;
            }
            write!(f, "{}; {}", mistake.what, mistake.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
