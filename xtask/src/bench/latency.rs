//! `cargo xtask bench latency`: items are added over the HTTP API at a fixed rate (an open loop), on connections
//! that stay open. Measures from the instant at which an item was due to be sent until the API's answer, the start
//! of its attempt, and its end. A sender that is late adds to the figures instead of lowering the rate.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::common::build::{self, Built};
use super::common::figures::percentile;
use super::common::http::Client;
use super::common::instant::unix_ms;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, JOB, Job};
use crate::postgres::Postgres;

/// Items a second that one connection has to send at most.
const RATE_OF_CONNECTION: u32 = 25;
/// Fewer than the requests that a host answers at a time.
const CONNECTIONS_MAX: u32 = 32;
/// Items of one measurement whose attempts are read.
const SAMPLE: usize = 2_000;
const END_TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub struct Args {
    /// Items a second that are added; several rates are measured one after another
    #[arg(long, value_delimiter = ',', default_values_t = [100, 300, 1_000])]
    rates: Vec<u32>,
    /// Seconds for each rate
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

/// An item that was sent and acknowledged, with times in milliseconds since 1970.
pub struct Sent {
    key: String,
    due_ms: f64,
    acknowledged_ms: f64,
}

/// Milliseconds from the instant at which each item was due.
#[derive(Default)]
struct Latencies {
    acknowledge: Vec<f64>,
    start: Vec<f64>,
    end: Vec<f64>,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    ensure!(args.rates.iter().all(|rate| *rate > 0), "a rate is at least 1 item a second");
    let (mut steps, built, postgres) = build::with_postgres(root, args.dev)?;
    let mut results = Results::new(root, "latency")?;
    steps.run("measuring", || {
        for db in ["sqlite", "postgres"] {
            for rate in &args.rates {
                let fields = measure(&built, db, *rate, args.seconds, &postgres)?;
                results.add(&fields)?;
            }
        }
        Ok(())
    })
}

fn measure(
    built: &Built<'_>,
    db: &str,
    rate: u32,
    seconds: u32,
    postgres: &Postgres,
) -> Result<Vec<(&'static str, Value)>> {
    let folder = Folder::new(built.root)?;
    let store = if db == "sqlite" { folder.sqlite_url() } else { postgres.fresh_database()? };
    let host = Host::start(built, &folder, "host", &store, &[Job::new(1)])?;
    eprintln!("{db}: {rate} items/s for {seconds} s …");
    // The first requests of a host prepare statements and open connections to the database.
    offer(host.address, rate.min(100), 2, "warm")?;
    let began = now_ms();
    let sent = offer(host.address, rate, seconds, "item")?;
    let last = sent.iter().map(|item| item.acknowledged_ms).fold(began, f64::max);
    let added_per_s = sent.len() as f64 * 1_000.0 / (last - began);
    let latencies = read(&mut host.client()?, &sent)?;
    let of = |values: &[f64], percent| rounded(percentile(values, percent), 1);
    Ok(vec![
        ("db", Value::from(db)),
        ("rate_per_s", Value::from(rate)),
        ("added_per_s", rounded(Some(added_per_s), 0)),
        ("acknowledge_ms_p50", of(&latencies.acknowledge, 50)),
        ("acknowledge_ms_p99", of(&latencies.acknowledge, 99)),
        ("start_ms_p50", of(&latencies.start, 50)),
        ("start_ms_p99", of(&latencies.start, 99)),
        ("end_ms_p50", of(&latencies.end, 50)),
        ("end_ms_p99", of(&latencies.end, 99)),
    ])
}

/// Adds items at the given rate from several connections, and returns them all.
pub fn offer(host: SocketAddr, rate: u32, seconds: u32, prefix: &str) -> Result<Vec<Sent>> {
    let connections = connections(rate);
    let items = u64::from(rate) * u64::from(seconds);
    let began = SystemTime::now() + Duration::from_millis(100);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|first| {
                let own = (u64::from(first)..items).step_by(connections as usize);
                scope.spawn(move || send(host, own, began, rate, prefix))
            })
            .collect();
        let mut sent = Vec::new();
        for sender in senders {
            sent.extend(sender.join().map_err(|_| anyhow!("a sender panicked"))??);
        }
        Ok(sent)
    })
}

/// Connections that keep each of them at a low rate.
fn connections(rate: u32) -> u32 {
    rate.div_ceil(RATE_OF_CONNECTION).clamp(1, CONNECTIONS_MAX)
}

/// Sends the items of these numbers, each at its own instant or, if the last answer was late, at once.
fn send(
    host: SocketAddr,
    numbers: impl Iterator<Item = u64>,
    began: SystemTime,
    rate: u32,
    prefix: &str,
) -> Result<Vec<Sent>> {
    let mut client = Client::connect(host)?;
    let path = format!("/api/v1/jobs/{JOB}/items");
    let mut sent = Vec::new();
    for n in numbers {
        let due = began + Duration::from_secs_f64(n as f64 / f64::from(rate));
        if let Ok(left) = due.duration_since(SystemTime::now()) {
            std::thread::sleep(left);
        }
        let key = format!("{prefix}-{n}");
        client.post(&path, &json!({ "key": key }))?;
        sent.push(Sent { key, due_ms: unix(due), acknowledged_ms: now_ms() });
    }
    Ok(sent)
}

/// Reads the attempts of a sample of the items, which are spread evenly.
fn read(client: &mut Client, sent: &[Sent]) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for item in sent.iter().step_by(sent.len().div_ceil(SAMPLE).max(1)) {
        let (started, ended) = attempt(client, &item.key)?;
        latencies.acknowledge.push(item.acknowledged_ms - item.due_ms);
        latencies.start.push(started - item.due_ms);
        latencies.end.push(ended - item.due_ms);
    }
    Ok(latencies)
}

/// Start and end of the item's first attempt, as recorded; waits until it has ended.
fn attempt(client: &mut Client, key: &str) -> Result<(f64, f64)> {
    let began = SystemTime::now();
    loop {
        let item = client.get_json(&format!("/api/v1/items/{JOB}/{key}"))?;
        // The newest is the first in the list.
        if let Some(attempt) = item["attempts"].as_array().and_then(|attempts| attempts.last()) {
            let time = |name: &str| unix_ms(attempt[name].as_str().with_context(|| format!("no {name}"))?);
            return Ok((time("started_at")?, time("ended_at")?));
        }
        let waited = began.elapsed().unwrap_or_default();
        ensure!(waited < END_TIME_MAX, "{key} has no attempt after {END_TIME_MAX:?}");
        std::thread::sleep(POLL);
    }
}

fn now_ms() -> f64 {
    unix(SystemTime::now())
}

fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_grow_with_the_rate_up_to_a_maximum() {
        assert_eq!([1, 25, 26, 300, 1_000].map(connections), [1, 1, 2, 12, 32]);
    }
}
