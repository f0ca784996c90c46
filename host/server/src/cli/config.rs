//! `tidemill config check` and `config show`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::failure::Failure;
use super::output::line;
use crate::config::{Config, ConfigError, Environment, show};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake, with file, line, key and remedy
    Check(FileArgs),
    /// Show the effective configuration with defaults and limits; passwords are hidden
    Show(FileArgs),
}

#[derive(Debug, Args)]
pub struct FileArgs {
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml")]
    config: PathBuf,
}

impl FileArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config, &Environment::of_process(), Timestamp::now())
    }
}

pub fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            let config = args.load()?;
            line(&format!("{}: no mistakes, {} jobs", args.config.display(), config.jobs.len()))
        }
        ConfigCommand::Show(args) => line(show::effective(&args.load()?).trim_end()),
    }
}
