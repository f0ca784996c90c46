//! `tidemill batches`: lists batches, shows one with its items, adds one from a file, and processes one now.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::items::{HEADER as ITEM_HEADER, row as item_row, say_waits};
use super::output::{Output, line, print, print_json, print_table, time};
use crate::api::batches::{AddBatch, AddedBatch, Batch, BatchWithItems, Batches, Processed};

#[derive(Debug, Args)]
pub struct BatchesArgs {
    #[command(subcommand)]
    command: Option<BatchesCommand>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum BatchesCommand {
    /// One batch with its items
    Show {
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Hand in the batch of a JSON file: {"job", "items": [{"operation", "payload"}]}
    Add {
        file: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make everything of a batch that waits due now
    Process {
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub fn run(args: BatchesArgs) -> Result<(), Failure> {
    match args.command {
        None => {
            let batches: Batches = args.remote.get(&["batches"], &[("limit", args.limit.to_string())])?;
            print(args.remote.output, &batches, &HEADER, |batches| batches.batches.iter().map(row).collect())
        }
        Some(BatchesCommand::Show { id, remote }) => show(&id, &remote),
        Some(BatchesCommand::Add { file, remote }) => add(&file, &remote),
        Some(BatchesCommand::Process { id, remote }) => process(&id, &remote),
    }
}

const HEADER: [&str; 9] =
    ["BATCH", "JOB", "BY", "CREATED", "TOTAL", "OPEN", "RESOLVED", "FOR A PERSON", "ABANDONED"];

fn row(batch: &Batch) -> Vec<String> {
    vec![
        batch.id.clone(),
        batch.job.clone(),
        batch.created_by.clone(),
        time(batch.created_at),
        batch.total.to_string(),
        (batch.pending + batch.retrying + batch.running).to_string(),
        batch.resolved.to_string(),
        batch.manual_required.to_string(),
        batch.abandoned.to_string(),
    ]
}

fn show(id: &str, remote: &Remote) -> Result<(), Failure> {
    let found: BatchWithItems = remote.get(&["batches", id], &[])?;
    if remote.output == Output::Json {
        return print_json(&found);
    }
    print_table(&HEADER, vec![row(&found.batch)])?;
    line("")?;
    print_table(&ITEM_HEADER, found.items.iter().map(item_row).collect())
}

fn add(file: &std::path::Path, remote: &Remote) -> Result<(), Failure> {
    let shown = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|e| Failure::Usage(format!("cannot read {shown}: {e}")))?;
    // Parsed here so that errors contain the file's name; the host gets the original bytes.
    let _: AddBatch =
        serde_json::from_str(&text).map_err(|e| Failure::Usage(format!("{shown} is not a batch: {e}")))?;
    let added: AddedBatch = remote.post_bytes(&["batches"], text.as_bytes())?;
    print(remote.output, &added, &HEADER, |added| vec![row(&added.batch)])?;
    match remote.output {
        Output::Json => Ok(()),
        Output::Table => say_waits(added.waits.as_ref()),
    }
}

fn process(id: &str, remote: &Remote) -> Result<(), Failure> {
    let processed: Processed = remote.post(&["batches", id, "process"], &json!({}))?;
    match remote.output {
        Output::Json => print_json(&processed),
        Output::Table => {
            line(&format!("{} items made due", processed.made_due))?;
            say_waits(processed.waits.as_ref())
        }
    }
}
