//! `tidemill serve`: the host itself.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Failure;
use crate::config::{Environment, Source};
use crate::{app, telemetry};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration; docs/tidemill.example.toml shows every key
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml")]
    config: PathBuf,
}

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let source = Source { file: args.config.clone(), environment: Environment::of_process() };
    let config = source.load(&[], Timestamp::now())?;
    telemetry::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(app::serve(source, config)).map_err(Failure::from)
}
