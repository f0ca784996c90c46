//! `cargo xtask bench sinks`: events a second that a host delivers from its outbox on Postgres to NATS JetStream and
//! to Redis.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::common::brokers::{Nats, Redis};
use super::common::build::{self, Built};
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, Job};
use crate::postgres::Postgres;

/// Topics; of Redis, also the name of the stream.
const TO_NATS: &str = "to-nats";
const TO_REDIS: &str = "to-redis";
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(1_800);
const POLL: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub struct Args {
    /// Events that each sink takes
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Keys of the events, in rotation; of one key, one event at a time is on its way
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let (mut steps, built, postgres) = build::with_postgres(root, args.dev)?;
    let (nats, redis) = steps.run("measuring", || measure(&built, args, &postgres))?;
    Results::new(root, "sinks")?.add(&[
        ("nats_events_per_s", rounded(Some(nats), 0)),
        ("redis_events_per_s", rounded(Some(redis), 0)),
    ])
}

fn measure(built: &Built<'_>, args: &Args, postgres: &Postgres) -> Result<(f64, f64)> {
    let folder = Folder::new(built.root)?;
    let (nats, redis) = (Nats::start(&folder, TO_NATS)?, Redis::start(&folder)?);
    let store = postgres.fresh_database()?;
    let sinks = format!(
        "[sinks.nats]\ntopics = [\"{TO_NATS}\"]\nnats = \"{}\"\n[sinks.redis]\ntopics = [\"{TO_REDIS}\"]\nredis = \"{}\"\n",
        nats.url(),
        redis.url()
    );
    let _host = Host::start_with(built, &folder, "host", &store, &[Job::new(1)], &sinks)?;
    let to_nats = deliver(postgres, &store, args, TO_NATS)?;
    let kept = nats.messages()?;
    ensure!(kept == args.events, "JetStream has {kept} messages of {} delivered events", args.events);
    let to_redis = deliver(postgres, &store, args, TO_REDIS)?;
    let kept = redis.entries(TO_REDIS)?;
    ensure!(kept == args.events, "Redis has {kept} entries of {} delivered events", args.events);
    Ok((to_nats, to_redis))
}

/// Adds events to the outbox in one transaction, and waits until the sink took all. Returns events a second.
fn deliver(postgres: &Postgres, store: &str, args: &Args, topic: &str) -> Result<f64> {
    postgres.query(store, &add(topic, args))?;
    let began = Instant::now();
    let waiting =
        format!("SELECT COUNT(*) FROM tidemill.event WHERE topic = '{topic}' AND delivered_at_ms IS NULL");
    while postgres.query(store, &waiting)? != "0" {
        ensure!(began.elapsed() < DELIVERY_TIME_MAX, "events of {topic} wait after {DELIVERY_TIME_MAX:?}");
        std::thread::sleep(POLL);
    }
    events_per_s(&postgres.query(store, &measured(topic))?)
}

/// As jobs publish them: many items, each with events of its own key.
fn add(topic: &str, Args { events, keys, bytes, .. }: &Args) -> String {
    format!(
        "INSERT INTO tidemill.event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
        SELECT gen_random_uuid(), n, '{topic}', 'key-' || n % {keys}, '{{\"n\":\"' || lpad(n::text, {bytes} - 8, '0') || '\"}}',
            'noop', gen_random_uuid(), 1, CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)
        FROM generate_series(1, {events}) AS n"
    )
}

/// Events whose delivery was recorded after that of the first claim, and the milliseconds between its record and the
/// last one.
fn measured(topic: &str) -> String {
    format!(
        "SELECT COUNT(*) FILTER (WHERE delivered_at_ms > first.at), MAX(delivered_at_ms) - MIN(first.at)
        FROM tidemill.event, (SELECT MIN(delivered_at_ms) AS at FROM tidemill.event WHERE topic = '{topic}') AS first
        WHERE topic = '{topic}'"
    )
}

fn events_per_s(line: &str) -> Result<f64> {
    let numbers = line.split_once('|').and_then(|(events, millis)| {
        Some((events.parse::<f64>().ok()?, millis.parse::<f64>().ok().filter(|millis| *millis > 0.0)?))
    });
    let (events, millis) = numbers.with_context(|| format!("too few events to measure: {line:?}"))?;
    Ok(events * 1_000.0 / millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_over_the_time_of_their_records() {
        assert_eq!(events_per_s("12000|500").unwrap(), 24_000.0);
        assert!(events_per_s("0|0").is_err());
        assert!(events_per_s("|").is_err());
    }

    #[test]
    fn payloads_have_the_given_size() {
        let args = Args { events: 1, keys: 1, bytes: 256, dev: false };
        let text = add(TO_NATS, &args);
        assert!(text.contains("lpad(n::text, 256 - 8, '0')"), "{text}");
        assert_eq!("{\"n\":\"\"}".len(), 8);
    }
}
