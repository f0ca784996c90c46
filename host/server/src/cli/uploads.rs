//! `tidemill plugins replay` and `upload`: handles a version in a file, before it runs.

use std::path::PathBuf;

use clap::Args;
use domain::text::escape;
use ureq::http::Method;

use super::client::Remote;
use super::component::Component;
use super::failure::Failure;
use super::output::{Output, line, print_json, print_table, short};
use super::versions::show;
use crate::api::jobs::Jobs;
use crate::api::uploads::Uploaded;
use crate::config::did_you_mean;
use crate::replay::report::{Replay, ReplayAttempt, ReplayEnd};

const HEADER: [&str; 6] = ["ITEM", "RECORDED", "NOW", "NEW", "EFFECTS", "CPU"];

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The component; its signature lies beside it, as FILE.minisig, if there is one
    file: PathBuf,
    /// Whose attempts
    #[arg(long)]
    job: String,
    /// How many of them at most, up to 200
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    last: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub struct UploadArgs {
    /// The component; its signature lies beside it, as FILE.minisig, if there is one
    file: PathBuf,
    /// The plugin's name; that of the file, unless given
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub fn upload(args: &UploadArgs) -> Result<(), Failure> {
    let component = Component::read(&args.file)?;
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let name = args.name.as_deref().unwrap_or(&stem);
    let uploaded: Uploaded = args.remote.send_component(Method::PUT, &["plugins", name], &[], &component)?;
    match args.remote.output {
        Output::Json => print_json(&uploaded),
        Output::Table => {
            line(&escape(&uploaded.detail))?;
            show(&args.remote, &uploaded.versions)
        }
    }
}

pub fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let component = Component::read(&args.file)?;
    let jobs: Jobs = args.remote.get(&["jobs"], &[])?;
    let Some(job) = jobs.jobs.iter().find(|job| job.name == args.job) else {
        let names: Vec<&str> = jobs.jobs.iter().map(|job| job.name.as_str()).collect();
        let near = did_you_mean(&args.job, &names);
        return Err(Failure::failed(format!("there is no job {:?}{near}", args.job)));
    };
    let path = ["plugins", &job.plugin, "replay"];
    let query = [("job", args.job.clone()), ("last", args.last.to_string())];
    let replay: Replay = args.remote.send_component(Method::POST, &path, &query, &component)?;
    match args.remote.output {
        Output::Json => print_json(&replay)?,
        Output::Table => {
            print_table(&HEADER, replay.attempts.iter().map(row).collect())?;
            line(&summary(&replay))?;
        }
    }
    if replay.summary.differs() { Err(Failure::Told) } else { Ok(()) }
}

fn row(attempt: &ReplayAttempt) -> Vec<String> {
    let effects = match attempt.effects_differ.as_slice() {
        [] => "same".to_owned(),
        kinds => kinds.join(", "),
    };
    vec![
        attempt.item.clone(),
        end(&attempt.recorded.end),
        end(&attempt.now.end),
        end(&attempt.new.end),
        effects,
        format!("{} -> {}", millis(attempt.now.cost.cpu_us), millis(attempt.new.cost.cpu_us)),
    ]
}

fn end(end: &ReplayEnd) -> String {
    let more = end.code.as_ref().or(end.note.as_ref());
    more.map_or_else(|| end.outcome.clone(), |more| format!("{}: {more}", end.outcome))
}

fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

fn summary(replay: &Replay) -> String {
    let totals = &replay.summary;
    let versions = format!("{} -> {}", short(Some(&replay.now.digest)), short(Some(&replay.new.digest)));
    let cpu = totals.cpu_ratio.map_or(String::new(), |ratio| format!(", CPU x {ratio:.2}"));
    let cut = if replay.cut_short { "; the time ran out before the remaining attempts" } else { "" };
    format!(
        "{versions}: {} attempts, {} with another outcome, {} with other effects{cpu}{cut}",
        totals.attempts, totals.different_outcomes, totals.different_effects
    )
}
