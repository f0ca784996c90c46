//! `cargo xtask bench bulk`: items a second that one request with a stream of items adds. The job is paused, so that
//! its attempts do not compete with the request.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::common::build::{self, Built};
use super::common::figures::median;
use super::common::http::Client;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, JOB, Job};

#[derive(clap::Args)]
pub struct Args {
    /// Rounds on each database; each result is the median of all
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Items of one request
    #[arg(long, default_value_t = 100_000)]
    items: u64,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let (mut steps, built, postgres) = build::with_postgres(root, args.dev)?;
    let (mut sqlite, mut on_postgres) = (Vec::new(), Vec::new());
    steps.run("measuring", || {
        for round in 1..=args.rounds {
            let folder = Folder::new(built.root)?;
            let on_sqlite = measure(&built, &folder, &folder.sqlite_url(), args.items)?;
            let server = measure(&built, &Folder::new(built.root)?, &postgres.fresh_database()?, args.items)?;
            eprintln!(
                "round {round} of {}: SQLite {on_sqlite:.0}, Postgres {server:.0} items/s",
                args.rounds
            );
            sqlite.push(on_sqlite);
            on_postgres.push(server);
        }
        Ok(())
    })?;
    Results::new(root, "bulk")?.add(&[
        ("sqlite_items_per_s", rounded(median(&sqlite), 0)),
        ("postgres_items_per_s", rounded(median(&on_postgres), 0)),
    ])
}

/// Items a second of one request to a host with a new store.
fn measure(built: &Built<'_>, folder: &Folder, store: &str, items: u64) -> Result<f64> {
    let host = Host::start(built, folder, "host", store, &[Job::new(1)])?;
    let mut client = host.client()?;
    client.post(&format!("/api/v1/jobs/{JOB}/pause"), &json!({}))?;
    // The first request of a host prepares statements.
    add(&mut client, "warm", 1_000)?;
    add(&mut client, "item", items)
}

fn add(client: &mut Client, prefix: &str, items: u64) -> Result<f64> {
    let lines = lines(prefix, items);
    let began = Instant::now();
    let answer = client.post_as(&format!("/api/v1/jobs/{JOB}/items"), "application/x-ndjson", &lines)?;
    let took = began.elapsed();
    ensure!(answer["added"] == items, "of {items} items were added: {answer}");
    Ok(items as f64 / took.as_secs_f64())
}

/// Items with a payload of about 50 bytes, in the order of their keys.
fn lines(prefix: &str, items: u64) -> String {
    let mut lines = String::new();
    for n in 0..items {
        // Writing to a text does not fail.
        let _ = writeln!(
            lines,
            r#"{{"key":"{prefix}-{n:09}","payload":"{{\"amount\":{n},\"currency\":\"EUR\",\"from\":\"account-{n}\"}}"}}"#
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_line_is_an_item() {
        let lines = lines("k", 3);
        let items: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(items[2]["key"], "k-000000002");
        let payload: Value = serde_json::from_str(items[2]["payload"].as_str().unwrap()).unwrap();
        assert_eq!(payload["amount"], 2);
    }
}
