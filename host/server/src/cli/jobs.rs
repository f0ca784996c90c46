//! `tidemill jobs`: the list, manual starts, pauses, and the results of due instants.

use clap::{Args, Subcommand};
use domain::text::escape;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::Remote;
use super::edits::{self, Clear, Set, Which};
use super::failure::Failure;
use super::output::{Output, line, print, print_json, short, time, time_or_none};
use crate::api::jobs::{Job, Jobs, Start, Triggered};
use crate::api::schedules::{Paused, Tick, Ticks};

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
        /// A JSON document for the plugin
        #[arg(long, value_parser = |text: &str| RawValue::from_string(text.to_owned()).map_err(|e| e.to_string()))]
        params: Option<Box<RawValue>>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Pause a job, or all jobs: nothing new starts until it is resumed; running attempts finish
    Pause(Whom),
    /// Resume a paused job, or all jobs
    Resume(Whom),
    /// Override a key of a job's configuration until it is cleared
    Set(Set),
    /// Clear overrides: the file applies again
    Clear(Clear),
    /// List a job's overrides
    Edits(Which),
    /// List a job's due instants and their results, newest first
    Ticks {
        job: String,
        #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
struct Whom {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    job: Option<String>,
    /// All jobs, including jobs added later
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(args: JobsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(&args.remote),
        Some(JobsCommand::Trigger { job, params, remote }) => trigger(&job, params, &remote),
        Some(JobsCommand::Pause(whom)) => set(&whom, "pause"),
        Some(JobsCommand::Resume(whom)) => set(&whom, "resume"),
        Some(JobsCommand::Set(args)) => edits::set(&args),
        Some(JobsCommand::Clear(args)) => edits::clear(&args),
        Some(JobsCommand::Edits(args)) => edits::list(&args),
        Some(JobsCommand::Ticks { job, limit, remote }) => ticks(&job, limit, &remote),
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
        match &job.paused {
            Some(pause) => format!("paused by {}", pause.by),
            None => time_or_none(job.next_due_at),
        },
        items.join(", "),
        job.blocked.clone().unwrap_or_default(),
    ]
}

fn trigger(job: &str, params: Option<Box<RawValue>>, remote: &Remote) -> Result<(), Failure> {
    let triggered: Triggered = remote.post(&["jobs", job], &Start { mode: None, params })?;
    match remote.output {
        Output::Json => print_json(&triggered),
        Output::Table => match &triggered.waits {
            None => line(&format!("started run {}", triggered.run_id)),
            Some(why) => line(&format!("run {} is added and waits: {}", triggered.run_id, escape(why))),
        },
    }
}

fn set(whom: &Whom, what: &str) -> Result<(), Failure> {
    let path = match &whom.job {
        Some(job) => vec!["jobs", job, what],
        None => vec![what],
    };
    let answer: Paused = whom.remote.post(&path, &json!({}))?;
    if whom.remote.output == Output::Json {
        return print_json(&answer);
    }
    let now = if answer.paused { "paused" } else { "not paused" };
    line(if answer.changed { now.to_owned() } else { format!("{now}, as before") }.as_str())?;
    answer.detail.iter().try_for_each(|detail| line(&escape(detail)))
}

fn ticks(job: &str, limit: u32, remote: &Remote) -> Result<(), Failure> {
    let ticks: Ticks = remote.get(&["jobs", job, "ticks"], &[("limit", limit.to_string())])?;
    let row = |tick: &Tick| vec![time(tick.at), tick.fate.clone(), tick.run_id.clone().unwrap_or_default()];
    print(remote.output, &ticks, &["DUE", "FATE", "RUN"], |ticks| ticks.ticks.iter().map(row).collect())
}
