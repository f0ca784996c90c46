//! `tidemill jobs set`, `clear` and `edits`: settings of a job, changed while it runs.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::output::{print, time};

use crate::api::edits::{Edits, Setting};
use crate::raw_json::raw_or_text;

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
    let set = BTreeMap::from([(args.key.as_str(), raw_or_text(&args.value))]);
    change(&args.job, &args.remote, &BTreeMap::from([("set", set)]))
}

pub fn clear(args: &Clear) -> Result<(), Failure> {
    let keys = if args.keys.is_empty() { vec!["*".to_owned()] } else { args.keys.clone() };
    change(&args.job, &args.remote, &json!({ "clear": keys }))
}

pub fn list(args: &Which) -> Result<(), Failure> {
    show(&args.remote, &args.remote.get(&["jobs", &args.job, "edits"], &[])?)
}

fn change(job: &str, remote: &Remote, body: &impl Serialize) -> Result<(), Failure> {
    show(remote, &remote.post(&["jobs", job, "edits"], body)?)
}

fn show(remote: &Remote, edits: &Edits) -> Result<(), Failure> {
    let row = |edit: &Setting| {
        vec![edit.key.clone(), edit.value.get().to_owned(), time(edit.since), edit.by.clone()]
    };
    print(remote.output, edits, &["KEY", "VALUE", "SINCE", "BY"], |edits| {
        edits.edits.iter().map(row).collect()
    })
}
