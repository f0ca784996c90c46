//! The command line: the commands as one enum, one file per command. `serve`, `demo`, `migrate`, `config`,
//! `schedule` and `token` run in this process; the others send requests to a running host over its HTTP API.

mod alerts;
mod audit;
mod batches;
mod bulk;
mod client;
mod compile;
mod component;
mod config;
mod edits;
mod failure;
mod hosts;
mod items;
mod jobs;
mod locks;
mod migrate;
mod outbox;
mod output;
mod plugins;
mod recover;
mod runs;
mod schedule;
pub(crate) mod serve;
mod token;
mod uploads;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::client::Remote;
use self::failure::{EXIT_FAILED, EXIT_USAGE, Failure};
use crate::{demo, telemetry};

#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about = "Runs jobs that are shipped as WebAssembly components")]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the host
    Serve(serve::ServeArgs),
    /// Run a host with a simulated business, to try Tidemill out
    Demo(demo::DemoArgs),
    /// Create or upgrade the store's tables; no host may be running
    Migrate(migrate::MigrateArgs),
    /// Check the configuration, or show the effective one
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// List, run, pause and configure jobs
    #[command(args_conflicts_with_subcommands = true)]
    Jobs(jobs::JobsArgs),
    /// List runs, newest first
    #[command(args_conflicts_with_subcommands = true)]
    Runs(runs::RunsArgs),
    /// List items and attempts, and decide about them
    #[command(args_conflicts_with_subcommands = true)]
    Items(items::ItemsArgs),
    /// Add and list batches of items
    #[command(args_conflicts_with_subcommands = true)]
    Batches(batches::BatchesArgs),
    /// List, inspect and control plugin versions
    #[command(args_conflicts_with_subcommands = true)]
    Plugins(plugins::PluginsArgs),
    /// List the hosts that share the store
    Hosts(hosts::HostsArgs),
    /// List, take and release named locks
    #[command(args_conflicts_with_subcommands = true)]
    Locks(locks::LocksArgs),
    /// List and acknowledge alerts
    #[command(args_conflicts_with_subcommands = true)]
    Alerts(alerts::AlertsArgs),
    /// List undelivered and dead events, and redrive them
    #[command(args_conflicts_with_subcommands = true)]
    Outbox(outbox::OutboxArgs),
    /// Recover items of lost hosts now
    Recover(Remote),
    /// Check the health of every job
    Doctor(Remote),
    /// Add, list and remove API tokens
    Token(token::TokenArgs),
    /// List the audit trail, newest first
    Audit(audit::AuditArgs),
    /// Preview schedules; needs no host
    Schedule {
        #[command(subcommand)]
        command: schedule::ScheduleCommand,
    },
    /// Compile the component on stdin; used by the host itself
    #[command(hide = true)]
    CompilePlugin(compile::CompileArgs),
}

/// Runs the command and returns the process's exit code.
pub fn run(cli: Cli) -> ExitCode {
    let code = run_command(cli);
    telemetry::flush();
    code
}

fn run_command(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(args).map_err(Failure::from),
        Command::Migrate(args) => migrate::run(&args),
        Command::Config { command } => config::run(&command),
        Command::Jobs(args) => jobs::run(args),
        Command::Runs(args) => runs::run(&args),
        Command::Items(args) => items::run(args),
        Command::Plugins(args) => plugins::run(args),
        Command::Hosts(args) => hosts::run(&args),
        Command::Locks(args) => locks::run(args),
        Command::Alerts(args) => alerts::run(args),
        Command::Batches(args) => batches::run(args),
        Command::Outbox(args) => outbox::run(args),
        Command::Recover(remote) => recover::recover(&remote),
        Command::Doctor(remote) => recover::doctor(&remote),
        Command::Token(args) => token::run(args),
        Command::Audit(args) => audit::run(&args),
        Command::Schedule { command } => schedule::run(&command),
        Command::CompilePlugin(args) => return compile::run(&args),
    };
    let (code, text) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => (EXIT_USAGE, text),
        Err(Failure::Failed(text)) => (EXIT_FAILED, text),
        Err(Failure::Told) => return ExitCode::from(EXIT_FAILED),
    };
    output::complain(&text);
    ExitCode::from(code)
}
