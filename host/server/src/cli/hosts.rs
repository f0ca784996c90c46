//! `tidemill hosts`.

use clap::Args;

use super::client::Remote;
use super::failure::Failure;
use super::output::{print, time, time_or_none};
use crate::api::hosts::{Host, Hosts};

#[derive(Debug, Args)]
pub struct HostsArgs {
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(args: &HostsArgs) -> Result<(), Failure> {
    let hosts: Hosts = args.remote.get(&["hosts"], &[("limit", args.limit.to_string())])?;
    let header = ["HOST", "NAME", "INCARNATION", "STARTED", "HEARTBEAT", "STOPPED", ""];
    print(args.remote.output, &hosts, &header, |hosts| hosts.hosts.iter().map(row).collect())
}

fn row(host: &Host) -> Vec<String> {
    vec![
        host.id.clone(),
        host.name.clone(),
        host.incarnation.clone().unwrap_or_default(),
        time(host.started_at),
        time(host.heartbeat_at),
        time_or_none(host.stopped_at),
        if host.this { "this one".to_owned() } else { String::new() },
    ]
}
