//! `tidemill serve`: runs the host.

use std::path::PathBuf;

use clap::Args;
use domain::clock::Clock;
use jiff::Timestamp;

use super::failure::Failure;
use crate::app::signals::Signals;
use crate::config::{Environment, Source};
use crate::{app, telemetry};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration; docs/tidemill.example.toml shows every key
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml")]
    config: PathBuf,
    /// For trials: seconds of the host's clock for each that passes; leases keep their real time
    #[arg(long, value_name = "FACTOR", value_parser = factor, requires = "clock_from")]
    clock_speed: Option<f64>,
    /// For trials: when the fast clock agreed with the real one; the same for all hosts of a trial
    #[arg(long, value_name = "INSTANT", requires = "clock_speed")]
    clock_from: Option<Timestamp>,
}

/// With a larger factor, a lease would last for hours by the fast clock.
const FACTOR_MAX: f64 = 1_000.0;

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=FACTOR_MAX).contains(&factor) => Ok(factor),
        _ => Err(format!("use a number from 1 to {FACTOR_MAX}")),
    }
}

/// A fast clock. Hosts with the same factor and instant show the same time, whenever they start.
pub(crate) fn trial_clock(factor: f64, from: Timestamp, now: Timestamp) -> Clock {
    let shown = from.saturating_add(now.duration_since(from).mul_f64(factor));
    Clock::scaled(factor, shown.unwrap_or(Timestamp::MAX))
}

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    crate::app::threads::check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the runtime: {e}")))?;
    let served = runtime.block_on(serve(args));
    // Does not wait for calls that still block a thread, like a webhook that does not answer.
    runtime.shutdown_background();
    served
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    // Before any file is opened, so that no signal ends the host at a bad moment.
    let signals = Signals::install().map_err(|e| Failure::failed(e.to_string()))?;
    let source = Source { file: args.config.clone(), environment: Environment::of_process() };
    let config = source.load(&[], Timestamp::now())?;
    telemetry::start(&config.log).map_err(|e| Failure::failed(format!("cannot start the log: {e}")))?;
    let (engine, clock) = match (args.clock_speed, args.clock_from) {
        (Some(factor), Some(from)) => {
            (config.engine.clone().scaled(factor), trial_clock(factor, from, Timestamp::now()))
        }
        _ => (config.engine.clone(), Clock::steady()),
    };
    app::serve(source, config, engine, clock, signals).await.map_err(Failure::from)
}
