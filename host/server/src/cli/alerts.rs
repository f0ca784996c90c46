//! `tidemill alerts` and `alerts acknowledge`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::output::{print, time};
use crate::api::alerts::{Alert, Alerts};

#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    /// Acknowledged ones too
    #[arg(long)]
    all: bool,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Say that someone takes care of it: raised again, it is a new alert
    Acknowledge {
        /// The alert's id, from the list
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

const HEADER: [&str; 8] = ["ID", "SEVERITY", "KIND", "JOB", "TIMES", "LAST", "ACKNOWLEDGED", "MESSAGE"];

pub fn run(args: AlertsArgs) -> Result<(), Failure> {
    if let Some(AlertsCommand::Acknowledge { id, remote }) = args.command {
        let alert: Alert = remote.post(&["alerts", &id, "acknowledge"], &json!({}))?;
        return print(remote.output, &alert, &HEADER, |alert| vec![row(alert)]);
    }
    let query = [("open", (!args.all).to_string()), ("limit", args.limit.to_string())];
    let alerts: Alerts = args.remote.get(&["alerts"], &query)?;
    print(args.remote.output, &alerts, &HEADER, |alerts| alerts.alerts.iter().map(row).collect())
}

fn row(alert: &Alert) -> Vec<String> {
    let acknowledged = alert.acknowledged_at.map(|at| {
        let by = alert.acknowledged_by.as_deref().unwrap_or_default();
        format!("{} by {by}", time(at))
    });
    vec![
        alert.id.clone(),
        alert.severity.clone(),
        alert.kind.clone(),
        alert.job.clone(),
        alert.times.to_string(),
        time(alert.last_at),
        acknowledged.unwrap_or_default(),
        alert.message.clone(),
    ]
}
