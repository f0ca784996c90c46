//! `tidemill schedule preview`: when a cron text would fire.

use clap::Subcommand;
use domain::cron::{Fold, Gap, OddNights};
use domain::schedule::Schedule;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::Failure;
use super::output::{Output, print_json, print_table};
use crate::config::schedule::{FOLD, GAP, words};

const COUNT_MAX: i64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Show the next instants of a cron text
    Preview {
        /// 5 or 6 fields like "*/5 * * * *", or @daily and the like
        cron: String,
        /// Time zone, as an IANA name
        #[arg(long, default_value = "UTC")]
        tz: String,
        /// Times that the spring night leaves out: after (they fire at its end) or skip; by the text unless given
        #[arg(long, value_parser = |word: &str| one_of(word, &GAP))]
        dst_gap: Option<Gap>,
        /// Times that the autumn night repeats: once or twice; by the text unless given
        #[arg(long, value_parser = |word: &str| one_of(word, &FOLD))]
        dst_fold: Option<Fold>,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
        count: u32,
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

fn one_of<T: Copy>(word: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known = || words.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(" or ");
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| format!("use {}", known()))
}

pub fn run(command: &ScheduleCommand) -> Result<(), Failure> {
    let ScheduleCommand::Preview { cron, tz, dst_gap, dst_fold, count, output } = command;
    let now = Timestamp::now();
    let nights = OddNights { gap: *dst_gap, fold: *dst_fold };
    let schedule = Schedule::cron(cron, tz, nights, now).map_err(|error| {
        let (what, remedy) = words(&error);
        Failure::Usage(format!("{what}; {remedy}"))
    })?;
    let zone = TimeZone::get(tz).map_err(|e| Failure::Usage(e.to_string()))?;
    let next = std::iter::successors(schedule.next_after(now), |at| schedule.next_after(*at));
    let instants: Vec<Timestamp> = next.take(*count as usize).collect();
    match output {
        Output::Json => print_json(&json!({ "cron": cron, "tz": tz, "instants": instants })),
        Output::Table => {
            let row = |at: &Timestamp| {
                let local = at.to_zoned(zone.clone());
                vec![local.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string(), at.to_string()]
            };
            print_table(&["LOCAL", "UTC"], instants.iter().map(row).collect())
        }
    }
}
