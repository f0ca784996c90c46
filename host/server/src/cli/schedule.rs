//! `tidemill schedule preview`: the instants of a cron text.

use clap::Subcommand;
use domain::schedule::cron::{Fold, Gap, OddNights};
use jiff::Timestamp;
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, line, print_json, print_table};
use crate::config::schedule::{FOLD, GAP, PREVIEW_MAX, cron, word};

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Show the next instants of a cron text
    Preview {
        /// 5 or 6 fields like "*/5 * * * *", or @daily and the like, as in crontab(5) of cronie
        cron: String,
        /// Time zone, as an IANA name
        #[arg(long, default_value = "UTC")]
        tz: String,
        /// Times that the spring night leaves out: after (they fire at its end) or skip; by the text unless given
        #[arg(long, value_parser = |text: &str| word(text, &GAP))]
        dst_gap: Option<Gap>,
        /// Times that the autumn night repeats: once or twice; by the text unless given
        #[arg(long, value_parser = |text: &str| word(text, &FOLD))]
        dst_fold: Option<Fold>,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(PREVIEW_MAX)))]
        count: u32,
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

pub fn run(command: &ScheduleCommand) -> Result<(), Failure> {
    let ScheduleCommand::Preview { cron: text, tz, dst_gap, dst_fold, count, output } = command;
    let now = Timestamp::now();
    let nights = OddNights { gap: *dst_gap, fold: *dst_fold };
    let schedule = cron(text, tz, nights, now).map_err(Failure::Usage)?;
    let zone = domain::schedule::zone::zone(tz).map_err(|e| Failure::Usage(e.to_string()))?;
    let rule = schedule.days_rule();
    let instants: Vec<Timestamp> = schedule.instants_after(now).take(*count as usize).collect();
    match output {
        Output::Json => print_json(&json!({ "cron": text, "tz": tz, "days": rule, "instants": instants })),
        Output::Table => {
            let row = |at: &Timestamp| {
                let local = at.to_zoned(zone.clone());
                vec![local.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string(), at.to_string()]
            };
            print_table(&["LOCAL", "UTC"], instants.iter().map(row).collect())?;
            rule.map_or(Ok(()), |rule| line(&format!("\n{rule}")))
        }
    }
}
