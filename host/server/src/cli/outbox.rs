//! `tidemill outbox`: events to be sent, and events that were given up.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print, print_json, time};
use crate::api::outbox::{DeadEvent, DeadLetters, Outbox, OutboxEvent, Redriven};

#[derive(Debug, Args)]
pub struct OutboxArgs {
    #[command(subcommand)]
    command: Option<OutboxCommand>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Events that were given up
    Dead(Remote),
    /// Send dead events again: those that are named, or all
    Redrive {
        ids: Vec<String>,
        #[command(flatten)]
        remote: Remote,
    },
}

pub fn run(args: OutboxArgs) -> Result<(), Failure> {
    match args.command {
        None => {
            let outbox: Outbox = args.remote.get(&["outbox"], &[("limit", args.limit.to_string())])?;
            let header = ["ID", "TOPIC", "KEY", "JOB", "CREATED"];
            print(args.remote.output, &outbox, &header, |outbox| outbox.events.iter().map(row).collect())
        }
        Some(OutboxCommand::Dead(remote)) => {
            let dead: DeadLetters = remote.get(&["outbox", "dead"], &[])?;
            let header = ["ID", "TOPIC", "KEY", "JOB", "TRIES", "DEAD SINCE", "ERROR"];
            print(remote.output, &dead, &header, |dead| dead.events.iter().map(dead_row).collect())
        }
        Some(OutboxCommand::Redrive { ids, remote }) => {
            let body = if ids.is_empty() { json!({}) } else { json!({ "ids": ids }) };
            let redriven: Redriven = remote.post(&["outbox", "redrive"], &body)?;
            match remote.output {
                Output::Json => print_json(&redriven),
                Output::Table => line(&format!("{} dead events are sent again", redriven.redriven)),
            }
        }
    }
}

fn row(event: &OutboxEvent) -> Vec<String> {
    let OutboxEvent { id, topic, key, job, created_at, .. } = event;
    vec![id.clone(), topic.clone(), key.clone(), job.clone(), time(*created_at)]
}

fn dead_row(dead: &DeadEvent) -> Vec<String> {
    let DeadEvent { id, topic, key, job, tries, dead_at, error, .. } = dead;
    vec![
        id.clone(),
        topic.clone(),
        key.clone(),
        job.clone(),
        tries.to_string(),
        time(*dead_at),
        error.clone(),
    ]
}
