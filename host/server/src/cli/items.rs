//! `tidemill items`: lists, one item with its attempts, and decisions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::text::escape;

use super::bulk;
use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print, print_json, print_table, short, time, time_or_none};
use crate::api::items::{Attempt, DecidedItem, Decision, Error, Item, ItemWithAttempts, Items};
use crate::api::jobs::{AddItem, AddedItem};

#[derive(Debug, Args)]
pub struct ItemsArgs {
    #[command(subcommand)]
    command: Option<ItemsCommand>,
    /// Only this job
    #[arg(long)]
    job: Option<String>,
    /// Only in this state: pending, retrying, scheduled (both of them), running, awaiting, resolved, manual_required or abandoned
    #[arg(long)]
    state: Option<String>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum ItemsCommand {
    /// One item with its attempts
    Show(ItemArgs),
    /// Add one manually, or all of a file, as if a discovery had found them
    Add {
        job: String,
        #[arg(required_unless_present = "file")]
        key: Option<String>,
        /// A JSON document for the plugin
        #[arg(long, default_value = "")]
        payload: String,
        /// Add the items of a file, or of the standard input (-): {"key", "payload"} on each line
        #[arg(long, conflicts_with_all = ["key", "payload"])]
        file: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make it due now
    Retry(DecideArgs),
    /// Say that it is done
    Resolve(DecideArgs),
    /// Leave it to a person: nothing tries it again by itself
    Manual(DecideArgs),
    /// Give it up
    Abandon(DecideArgs),
}

#[derive(Debug, Args)]
struct ItemArgs {
    job: String,
    key: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct DecideArgs {
    #[command(flatten)]
    item: ItemArgs,
    /// Why, for the audit trail
    #[arg(long)]
    notes: Option<String>,
}

pub fn run(args: ItemsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(&args),
        Some(ItemsCommand::Show(item)) => show(&item),
        Some(ItemsCommand::Add { job, file: Some(file), remote, .. }) => bulk::add(&job, &file, &remote),
        Some(ItemsCommand::Add { job, key, payload, file: None, remote }) => {
            add(&job, AddItem { key: key.unwrap_or_default(), payload }, &remote)
        }
        Some(ItemsCommand::Retry(decide_args)) => decide(&decide_args, "retry"),
        Some(ItemsCommand::Resolve(decide_args)) => decide(&decide_args, "resolve"),
        Some(ItemsCommand::Manual(decide_args)) => decide(&decide_args, "manual"),
        Some(ItemsCommand::Abandon(decide_args)) => decide(&decide_args, "abandon"),
    }
}

fn list(args: &ItemsArgs) -> Result<(), Failure> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.job.clone().map(|job| ("job", job)));
    query.extend(args.state.clone().map(|state| ("state", state)));
    let items: Items = args.remote.get(&["items"], &query)?;
    print(args.remote.output, &items, &HEADER, |items| items.items.iter().map(row).collect())
}

pub const HEADER: [&str; 7] = ["JOB", "KEY", "STATE", "ATTEMPTS", "DUE", "UPDATED", "LAST ERROR OR NOTE"];

pub fn row(item: &Item) -> Vec<String> {
    let ended = ["resolved", "manual_required", "abandoned"].contains(&item.state.as_str());
    vec![
        item.job.clone(),
        item.key.clone(),
        item.shown.clone(),
        item.attempts.to_string(),
        if ended { String::new() } else { time(item.due_at) },
        time(item.updated_at),
        words(item.error.as_ref()).or_else(|| item.note.clone()).unwrap_or_default(),
    ]
}

fn words(error: Option<&Error>) -> Option<String> {
    error.map(|error| format!("{}: {}", error.code, error.message))
}

fn add(job: &str, body: AddItem, remote: &Remote) -> Result<(), Failure> {
    let added: AddedItem = remote.post(&["jobs", job, "items"], &body)?;
    print(remote.output, &added, &HEADER, |added| vec![row(&added.item)])?;
    match remote.output {
        Output::Json => Ok(()),
        Output::Table => {
            line(&escape(&added.detail))?;
            say_waits(added.waits.as_ref())
        }
    }
}

/// Only in a table's output, because JSON contains it.
pub fn say_waits(waits: Option<&String>) -> Result<(), Failure> {
    waits.map_or(Ok(()), |why| line(&format!("it waits: {}", escape(why))))
}

fn show(args: &ItemArgs) -> Result<(), Failure> {
    let found: ItemWithAttempts = args.remote.get(&["items", &args.job, &args.key], &[])?;
    if args.remote.output == Output::Json {
        return print_json(&found);
    }
    let item = &found.item;
    let facts = [
        ("job", item.job.clone()),
        ("key", item.key.clone()),
        ("state", item.shown.clone()),
        ("attempts", item.attempts.to_string()),
        ("crashes in a row", item.crashes.to_string()),
        ("due", time(item.due_at)),
        ("last attempt", time_or_none(item.last_attempt_at)),
        ("created", time(item.created_at)),
        ("note", item.note.clone().unwrap_or_default()),
        ("error", words(item.error.as_ref()).unwrap_or_default()),
        ("payload", item.payload.clone()),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        line(&format!("{name:<17} {}", escape(value)))?;
    }
    line("")?;
    let header = [
        "EPOCH",
        "ATTEMPT",
        "STARTED",
        "TOOK",
        "CPU",
        "MEMORY",
        "CALLS",
        "BYTES",
        "VERDICT",
        "VERSION",
        "ERROR OR NOTE",
    ];
    print_table(&header, found.attempts.iter().map(attempt_row).collect())?;
    match found.attempts.first() {
        Some(last) if !last.log.is_empty() => line(&format!("\nlog of the last attempt:\n{}", last.log)),
        _ => Ok(()),
    }
}

fn attempt_row(attempt: &Attempt) -> Vec<String> {
    vec![
        attempt.epoch.to_string(),
        attempt.number.to_string(),
        time(attempt.started_at),
        format!("{:.1} ms", attempt.wall_us as f64 / 1_000.0),
        format!("{:.1} ms", attempt.cpu_us as f64 / 1_000.0),
        format!("{} KiB", attempt.memory_bytes_max / 1_024),
        attempt.host_calls.to_string(),
        attempt.host_bytes.to_string(),
        attempt.verdict.clone(),
        short(attempt.digest.as_ref()),
        words(attempt.error.as_ref()).or_else(|| attempt.note.clone()).unwrap_or_default(),
    ]
}

fn decide(args: &DecideArgs, decision: &str) -> Result<(), Failure> {
    let DecideArgs { item: ItemArgs { job, key, remote }, notes } = args;
    let body = Decision { notes: notes.clone(), version: None };
    let decided: DecidedItem = remote.post(&["items", job, key, decision], &body)?;
    print(remote.output, &decided, &HEADER, |decided| vec![row(&decided.item)])?;
    match remote.output {
        Output::Json => Ok(()),
        Output::Table => say_waits(decided.waits.as_ref()),
    }
}
