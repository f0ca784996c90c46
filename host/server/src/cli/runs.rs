//! `tidemill runs`.

use clap::Args;

use super::Failure;
use super::client::Remote;
use super::output::{print, short, time};
use crate::api::types::{Run, Runs};

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only of this job
    #[arg(long)]
    job: Option<String>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(args: &RunsArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.job.clone().map(|job| ("job", job)));
    let runs: Runs = args.remote.get(&["runs"], &query)?;
    let header = ["RUN", "JOB", "STARTED", "BY", "STATE", "DONE", "FAILED", "VERSION", "SUMMARY"];
    print(args.remote.output, &runs, &header, |runs| runs.runs.iter().map(row).collect())
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
