//! `cargo xtask bench scale`: throughput and answers of the API with more and more items stored. With `--soak`,
//! memory and tables of a host that gets items at a fixed rate.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::common::build::{self, Built};
use super::common::drain;
use super::common::figures::median;
use super::common::http::Client;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, Job};
use super::common::usage::memory_kib;
use super::latency::offer;
use crate::postgres::Postgres;

const STORED: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Items whose throughput is measured beside the stored ones.
const FRESH_ITEMS: u64 = 20_000;
/// Requests of each kind; the median counts.
const REQUESTS: usize = 11;
/// Names in the result, and paths.
const QUERIES: [(&str, &str); 6] = [
    ("page_ms", "/"),
    ("jobs_ms", "/api/v1/jobs"),
    ("items_ms", "/api/v1/items?limit=100"),
    ("items_of_job_ms", "/api/v1/items?job=stored-0&limit=100"),
    ("items_of_state_ms", "/api/v1/items?state=resolved&limit=100"),
    ("metrics_ms", "/metrics"),
];
const TABLES_SHOWN: u32 = 8;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Db {
    Postgres,
    Sqlite,
}

#[derive(clap::Args)]
pub struct Args {
    /// The host's database
    #[arg(long, value_enum, default_value = "postgres")]
    db: Db,
    /// Measure with 10,000,000 stored items, too, which takes an hour or more
    #[arg(long)]
    huge: bool,
    /// Measure only memory and tables of a host on Postgres, for so many minutes
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u32>,
    /// Items a second that are added in a soak
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let (mut steps, built, postgres) = build::with_postgres(root, args.dev)?;
    steps.run("measuring", || match args.soak {
        Some(minutes) => soak(&built, minutes, args.rate, &postgres),
        None => grow(&built, args, &postgres),
    })
}

fn grow(built: &Built<'_>, args: &Args, postgres: &Postgres) -> Result<()> {
    let sizes = &STORED[..if args.huge { 4 } else { 3 }];
    let folder = Folder::new(built.root)?;
    let store = match args.db {
        Db::Sqlite => folder.sqlite_url(),
        Db::Postgres => postgres.fresh_database()?,
    };
    let host = Host::start(built, &folder, "host", &store, &jobs(sizes))?;
    let mut client = host.client()?;
    let mut results = Results::new(built.root, "scale")?;
    let mut smallest = None;
    for (n, stored) in sizes.iter().enumerate() {
        eprintln!("storing {stored} items …");
        drain::run(&mut client, &format!("stored-{n}"))?;
        let figures = measure(&mut client, &format!("fresh-{n}"))?;
        let first = smallest.get_or_insert_with(|| figures.clone());
        results.add(&fields(*stored, &figures, first))?;
    }
    Ok(())
}

/// One job for each size, with the items that the size before it lacks, and one whose throughput is measured.
fn jobs(sizes: &[u64]) -> Vec<Job> {
    let mut before = 0;
    let mut jobs = Vec::new();
    for (n, stored) in sizes.iter().enumerate() {
        jobs.push(Job { name: format!("stored-{n}"), ..Job::new(stored - before) });
        jobs.push(Job { name: format!("fresh-{n}"), ..Job::new(FRESH_ITEMS) });
        before = *stored;
    }
    jobs
}

type Figure = (&'static str, f64);

fn measure(client: &mut Client, fresh: &str) -> Result<Vec<Figure>> {
    let mut figures = vec![("items_per_s", drain::throughput(client, fresh)?)];
    for (name, path) in QUERIES {
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let began = Instant::now();
            client.get(path)?;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        figures.push((name, median(&times).context("no request was measured")?));
    }
    Ok(figures)
}

/// The figures, and each as a ratio to that of the smallest size.
fn fields(stored: u64, figures: &[Figure], first: &[Figure]) -> Vec<(&'static str, Value)> {
    let mut ratios = Map::new();
    for ((name, figure), (_, smallest)) in figures.iter().zip(first) {
        ratios.insert((*name).to_owned(), rounded(Some(figure / smallest), 2));
    }
    let figures = figures.iter().map(|(name, figure)| {
        let digits = if *name == "items_per_s" { 0 } else { 1 };
        (*name, rounded(Some(*figure), digits))
    });
    let stored = [("stored", Value::from(stored))];
    stored.into_iter().chain(figures).chain([("ratios", Value::from(ratios))]).collect()
}

fn soak(built: &Built<'_>, minutes: u32, rate: u32, postgres: &Postgres) -> Result<()> {
    let folder = Folder::new(built.root)?;
    let store = postgres.fresh_database()?;
    let host = Host::start(built, &folder, "host", &store, &[Job::new(1)])?;
    let mut results = Results::new(built.root, "soak")?;
    for minute in 1..=minutes {
        let added = offer(host.address, rate, 60, &format!("minute-{minute}"))?.len();
        let dead = "SELECT COALESCE(SUM(n_dead_tup), 0) FROM pg_stat_user_tables";
        let dead: u64 = postgres.query(&store, dead)?.parse().context("dead tuples are no number")?;
        results.add(&[
            ("minute", Value::from(minute)),
            ("added", Value::from(added)),
            ("rss_kib", Value::from(memory_kib(host.process_id())?)),
            ("dead_tuples", Value::from(dead)),
            ("tables_kib", tables(&postgres.query(&store, &largest_tables())?)?),
        ])?;
    }
    Ok(())
}

/// With indexes and large values.
fn largest_tables() -> String {
    format!(
        "SELECT relname, pg_total_relation_size(relid) / 1024 FROM pg_stat_user_tables
         ORDER BY 2 DESC, 1 LIMIT {TABLES_SHOWN}"
    )
}

/// Lines of a name and a number.
fn tables(lines: &str) -> Result<Value> {
    let mut tables = Map::new();
    for line in lines.lines() {
        let (name, size) = line.split_once('|').with_context(|| format!("{line:?} has no size"))?;
        let size: u64 = size.parse().with_context(|| format!("{line:?} has no size"))?;
        tables.insert(name.to_owned(), Value::from(size));
    }
    Ok(Value::from(tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_add_up_to_each_size() {
        let jobs = jobs(&STORED[..3]);
        let items = |prefix: &str| -> Vec<u64> {
            jobs.iter().filter(|job| job.name.starts_with(prefix)).map(|job| job.items).collect()
        };
        assert_eq!(items("stored"), [10_000, 90_000, 900_000]);
        assert_eq!(items("fresh"), [FRESH_ITEMS; 3]);
    }

    #[test]
    fn figures_are_compared_with_the_smallest_size() {
        let first = vec![("items_per_s", 2_000.0), ("page_ms", 4.0)];
        let figures = vec![("items_per_s", 1_500.0), ("page_ms", 5.0)];
        let fields = fields(100_000, &figures, &first);
        assert_eq!(fields[0], ("stored", Value::from(100_000)));
        assert_eq!(fields[3].1, serde_json::json!({ "items_per_s": 0.75, "page_ms": 1.25 }));
    }

    #[test]
    fn tables_are_read_from_their_lines() {
        assert_eq!(tables("item|64\nrun|8").unwrap(), serde_json::json!({ "item": 64, "run": 8 }));
        assert!(tables("item").is_err());
    }
}
