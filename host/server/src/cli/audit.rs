//! `tidemill audit`.

use clap::Args;

use super::client::Remote;
use super::failure::Failure;
use super::output::{print, time};
use crate::api::audit::{Audit, AuditEntry};

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let audit: Audit = args.remote.get(&["audit"], &[("limit", args.limit.to_string())])?;
    let header = ["TIME", "WHO", "WHAT", "JOB", "SUBJECT", "DETAIL"];
    print(args.remote.output, &audit, &header, |audit| audit.audit.iter().map(row).collect())
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        time(entry.at),
        entry.actor.clone(),
        entry.action.clone(),
        entry.job.clone().unwrap_or_default(),
        entry.subject.clone(),
        entry.detail.clone(),
    ]
}
