//! `tidemill jobs set`, `clear` and `edits`: settings of a job, changed while it runs.

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::client::Remote;
use super::output::{print, time};
use crate::api::types::{Edits, Setting};

#[derive(Debug, Args)]
pub struct Set {
    job: String,
    /// As in the job's section of the file, like retry.base
    key: String,
    /// A number, true, false, text, or JSON like '{"every": "5m"}'
    value: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub struct Clear {
    job: String,
    /// All that was set, unless keys are named
    keys: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub struct Which {
    job: String,
    #[command(flatten)]
    remote: Remote,
}

pub fn set(args: &Set) -> Result<(), Failure> {
    let value = serde_json::from_str(&args.value).unwrap_or_else(|_| Value::String(args.value.clone()));
    change(&args.job, &args.remote, &json!({ "set": { &args.key: value } }))
}

pub fn clear(args: &Clear) -> Result<(), Failure> {
    let keys = if args.keys.is_empty() { vec!["*".to_owned()] } else { args.keys.clone() };
    change(&args.job, &args.remote, &json!({ "clear": keys }))
}

pub fn list(args: &Which) -> Result<(), Failure> {
    show(&args.remote, &args.remote.get(&["jobs", &args.job, "edits"], &[])?)
}

fn change(job: &str, remote: &Remote, body: &Value) -> Result<(), Failure> {
    show(remote, &remote.post(&["jobs", job, "edits"], body)?)
}

fn show(remote: &Remote, edits: &Edits) -> Result<(), Failure> {
    let row =
        |edit: &Setting| vec![edit.key.clone(), edit.value.to_string(), time(edit.since), edit.by.clone()];
    print(remote.output, edits, &["KEY", "VALUE", "SINCE", "BY"], |edits| {
        edits.edits.iter().map(row).collect()
    })
}
