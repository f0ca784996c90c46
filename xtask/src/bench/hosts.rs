//! `cargo xtask bench hosts`: the throughput of one, two and three hosts that share a Postgres, and a check that
//! no item was claimed twice.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::common::build::{self, Built};
use super::common::drain;
use super::common::http::Client;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, JOB, Job};
use crate::postgres::Postgres;

const HOSTS_MAX: u32 = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Items that the hosts resolve together in each measurement
    #[arg(long, default_value_t = 50_000)]
    items: u64,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let (mut steps, built, postgres) = build::with_postgres(root, args.dev)?;
    let mut results = Results::new(root, "hosts")?;
    let mut alone = None;
    steps.run("measuring", || {
        for hosts in 1..=HOSTS_MAX {
            let (items_per_s, shares) = measure(&built, hosts, args.items, &postgres)?;
            let alone = *alone.get_or_insert(items_per_s);
            results.add(&[
                ("hosts", Value::from(hosts)),
                ("items_per_s", rounded(Some(items_per_s), 0)),
                ("ratio_one_host", rounded(Some(items_per_s / alone), 2)),
                ("attempts_by_host", Value::from(shares)),
                ("claimed_twice", Value::from(0)),
            ])?;
        }
        Ok(())
    })
}

/// Returns items a second of all hosts, and how many attempts each made.
fn measure(built: &Built<'_>, hosts: u32, items: u64, postgres: &Postgres) -> Result<(f64, Vec<u64>)> {
    let folder = Folder::new(built.root)?;
    let store = postgres.fresh_database()?;
    let hosts: Vec<Host> = (0..hosts)
        .map(|n| Host::start(built, &folder, &format!("host-{n}"), &store, &[Job::new(items)]))
        .collect::<Result<_>>()?;
    let first = hosts.first().context("at least one host")?;
    let mut client = first.client()?;
    let items_per_s = drain::throughput(&mut client, JOB)?;
    let shares = hosts.iter().map(|host| attempts(&mut host.client()?)).collect::<Result<Vec<_>>>()?;
    eprintln!("{} hosts: {items_per_s:.0} items/s; checking the attempts of {items} items …", hosts.len());
    ensure!(shares.iter().sum::<u64>() == items, "{items} items had {shares:?} attempts");
    for n in 1..=items {
        claimed_once(&mut client, &format!("n-{n}"))?;
    }
    Ok((items_per_s, shares))
}

/// The attempts that a host ended since its start, by its own counters.
fn attempts(client: &mut Client) -> Result<u64> {
    Ok(sum(&client.get("/metrics")?, "tidemill_attempts_total"))
}

fn sum(metrics: &str, name: &str) -> u64 {
    let own =
        metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Each claim raises the item's epoch, so an item with one attempt of epoch 1 was claimed once.
fn claimed_once(client: &mut Client, key: &str) -> Result<()> {
    let item = client.get_json(&format!("/api/v1/items/{JOB}/{key}"))?;
    let attempts = item["attempts"].as_array().context("no attempts in the answer")?;
    let once = attempts.len() == 1 && attempts.iter().all(|attempt| attempt["epoch"] == 1);
    ensure!(once, "{key} was claimed more than once: {}", item["attempts"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_over_all_labels() {
        let metrics = "# TYPE tidemill_attempts_total counter
tidemill_attempts_total{job=\"noop\",verdict=\"resolved\"} 40
tidemill_attempts_total{job=\"noop\",verdict=\"transient\"} 2
tidemill_attempts_total_more{job=\"noop\"} 100
";
        assert_eq!(sum(metrics, "tidemill_attempts_total"), 42);
        assert_eq!(sum("", "tidemill_attempts_total"), 0);
    }
}
