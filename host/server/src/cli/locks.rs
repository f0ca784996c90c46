//! `tidemill locks`, `take`, `renew` and `release`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::output::{print, time};
use crate::api::locks::{Lock, Locks};

#[derive(Debug, Args)]
pub struct LocksArgs {
    #[command(subcommand)]
    command: Option<LocksCommand>,
    #[arg(long, default_value_t = crate::api::LIMIT_DEFAULT)]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum LocksCommand {
    /// Take a lock for a time; prints its fencing token
    Take {
        name: String,
        /// 1s to 24h
        #[arg(long, default_value = "1m")]
        ttl: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Extend a lock
    Renew {
        name: String,
        /// The fencing token of your hold
        fencing: i64,
        #[arg(long, default_value = "1m")]
        ttl: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Release a lock; without a token, its present holder loses it
    Release {
        name: String,
        /// The fencing token of your hold
        #[arg(long)]
        fencing: Option<i64>,
        #[command(flatten)]
        remote: Remote,
    },
}

const HEADER: [&str; 5] = ["LOCK", "TOKEN", "HOLDER", "TAKEN", "UNTIL"];

pub fn run(args: LocksArgs) -> Result<(), Failure> {
    match args.command {
        None => {
            let locks: Locks = args.remote.get(&["locks"], &[("limit", args.limit.to_string())])?;
            all(&args.remote, &locks)
        }
        Some(LocksCommand::Take { name, ttl, remote }) => {
            one(&remote, &remote.post(&["locks", &name, "take"], &json!({ "ttl": ttl }))?)
        }
        Some(LocksCommand::Renew { name, fencing, ttl, remote }) => {
            one(&remote, &remote.post(&["locks", &name, "renew"], &json!({ "token": fencing, "ttl": ttl }))?)
        }
        Some(LocksCommand::Release { name, fencing, remote }) => {
            all(&remote, &remote.post(&["locks", &name, "release"], &json!({ "token": fencing }))?)
        }
    }
}

fn all(remote: &Remote, locks: &Locks) -> Result<(), Failure> {
    print(remote.output, locks, &HEADER, |locks| locks.locks.iter().map(row).collect())
}

fn one(remote: &Remote, lock: &Lock) -> Result<(), Failure> {
    print(remote.output, lock, &HEADER, |lock| vec![row(lock)])
}

fn row(lock: &Lock) -> Vec<String> {
    let until = lock.until.map_or("the attempt ends".to_owned(), time);
    vec![lock.name.clone(), lock.token.to_string(), lock.holder.clone(), time(lock.taken_at), until]
}
