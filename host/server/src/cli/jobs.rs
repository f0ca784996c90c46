//! `tidemill jobs` and `jobs trigger`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use super::client::Remote;
use super::output::{Output, line, print, print_json, short, time_or_none};
use crate::api::types::{Job, Jobs, Triggered};

#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Start a run now
    Trigger {
        job: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub fn run(args: JobsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(&args.remote),
        Some(JobsCommand::Trigger { job, remote }) => trigger(&job, &remote),
    }
}

fn list(remote: &Remote) -> Result<(), Failure> {
    let jobs: Jobs = remote.get(&["jobs"], &[])?;
    let header = ["JOB", "PLUGIN", "VERSION", "SCHEDULE", "NEXT", "ITEMS", "BLOCKED"];
    print(remote.output, &jobs, &header, |jobs| jobs.jobs.iter().map(row).collect())
}

fn row(job: &Job) -> Vec<String> {
    let items: Vec<String> = job.items.iter().map(|c| format!("{} {}", c.items, c.state)).collect();
    vec![
        job.name.clone(),
        job.plugin.clone(),
        short(job.digest.as_ref()),
        job.schedule.clone(),
        time_or_none(job.next_due_at),
        items.join(", "),
        job.blocked.clone().unwrap_or_default(),
    ]
}

fn trigger(job: &str, remote: &Remote) -> Result<(), Failure> {
    let triggered: Triggered = remote.post(&["jobs", job], &json!({}))?;
    match remote.output {
        Output::Json => print_json(&triggered),
        Output::Table => line(&format!("started run {}", triggered.run_id)),
    }
}
