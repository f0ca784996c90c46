//! `tidemill runs`: lists runs, and shows one with its result.

use clap::{Args, Subcommand};
use domain::text::escape;

use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print, print_json, print_table, short, time};
use crate::api::runs::{FailedItem, Run, RunWithResult, Runs};

#[derive(Debug, Args)]
pub struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    /// Only this job
    #[arg(long)]
    job: Option<String>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Show a run's progress and its failed items
    Show {
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

const HEADER: [&str; 9] = ["RUN", "JOB", "STARTED", "BY", "STATE", "DONE", "FAILED", "VERSION", "SUMMARY"];
const FAILURES_HEADER: [&str; 5] = ["KEY", "ATTEMPTS", "CODE", "MESSAGE", "PAYLOAD"];

pub fn run(args: &RunsArgs) -> Result<(), Failure> {
    if let Some(RunsCommand::Show { id, remote }) = &args.command {
        return show(id, remote);
    }
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.job.clone().map(|job| ("job", job)));
    let runs: Runs = args.remote.get(&["runs"], &query)?;
    print(args.remote.output, &runs, &HEADER, |runs| runs.runs.iter().map(row).collect())
}

fn show(id: &str, remote: &Remote) -> Result<(), Failure> {
    let found: RunWithResult = remote.get(&["runs", id], &[])?;
    if remote.output == Output::Json {
        return print_json(&found);
    }
    print_table(&HEADER, vec![row(&found.run)])?;
    let result = &found.result;
    let (current, total) = (result.current, result.total);
    line(&format!(
        "\n{current} of {total} attempted: {} success, {} failed for good",
        result.success, result.failed
    ))?;
    if let Some(last) = &result.last {
        let how = if last.success { "success" } else { "failed for good" };
        line(&format!("last: {} ({how}, {})", escape(&last.key), time(last.at)))?;
    }
    if found.failures.is_empty() {
        return Ok(());
    }
    line("")?;
    print_table(&FAILURES_HEADER, found.failures.iter().map(failure_row).collect())
}

fn failure_row(item: &FailedItem) -> Vec<String> {
    let attempts = item.attempts.to_string();
    vec![
        item.key.clone(),
        attempts,
        item.error.code.clone(),
        item.error.message.clone(),
        item.payload.clone(),
    ]
}

fn row(run: &Run) -> Vec<String> {
    let error = run.error.as_ref().map(|e| format!("{}: {}", e.code, e.message));
    vec![
        run.id.clone(),
        run.job.clone(),
        time(run.created_at),
        run.started_by.clone(),
        run.state.clone(),
        format!("{}/{}", run.done, run.queued),
        run.failed.to_string(),
        short(run.digest.as_ref()),
        error.unwrap_or_else(|| run.summary.clone()),
    ]
}
