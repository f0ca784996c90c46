//! `cargo xtask bench peers`: items a second of Tidemill and of other job systems, on one private Postgres.
//! All are measured in each round, one after another, so that a change of the machine's speed meets all.

mod programs;

use std::path::Path;

use anyhow::{Context, Result};

use self::programs::Peers;
use super::common::build::{self, Built};
use super::common::drain;
use super::common::figures::median;
use super::common::result::{Results, rounded};
use super::common::served::{Folder, Host, JOB, Job, can_reuse_instances};
use super::common::usage::{PerItem, Usage};
use super::plot::{Bar, bars};
use crate::postgres::Postgres;
use crate::steps::Steps;

const PLOT: &str = "docs/performance/peers.svg";

#[derive(clap::Args)]
pub struct Args {
    /// Rounds; each result is the median of all
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Items that each system resolves in each round
    #[arg(long, default_value_t = 100_000)]
    items: u64,
    /// Measure the host as it is built for development, which is there sooner
    #[arg(long)]
    dev: bool,
}

/// The figures of one system, one a round, in items a second.
#[derive(Default)]
struct Figures {
    river: Vec<f64>,
    graphile: Vec<f64>,
    pgboss: Vec<f64>,
    native: Vec<f64>,
    fresh: Vec<f64>,
    /// Empty while the host does not know `isolation = "batch"`.
    reused: Vec<f64>,
    /// Of the component with fresh instances.
    used: Vec<PerItem>,
}

pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut steps = Steps::new(build::STEPS + 3);
    let built = build::build(root, args.dev, &mut steps)?;
    let peers = steps.run("installing the peers", || Peers::install(root))?;
    let postgres = steps.run("starting Postgres", Postgres::start)?;
    let figures = steps.run("measuring", || measure(&built, args, &peers, &postgres))?;
    Results::new(root, "peers")?.add(&figures.fields())?;
    // The chart is for the documents, which show optimised builds.
    if args.dev { Ok(()) } else { plot(root, &figures) }
}

fn measure(built: &Built<'_>, args: &Args, peers: &Peers, postgres: &Postgres) -> Result<Figures> {
    let items = args.items;
    let reuses = can_reuse_instances(built)?;
    if !reuses {
        eprintln!("this host has no `isolation = \"batch\"`: component_reused is null");
    }
    let mut figures = Figures::default();
    for round in 1..=args.rounds {
        let said = |name: &str, figure: f64| {
            eprintln!("round {round} of {}: {name} {figure:.0} items/s", args.rounds);
            figure
        };
        figures.river.push(said("River", peers.river(&postgres.fresh_database()?, items)?));
        figures.graphile.push(said("graphile-worker", peers.graphile(&postgres.fresh_database()?, items)?));
        figures.pgboss.push(said("pg-boss", peers.pgboss(&postgres.fresh_database()?, items)?));
        figures.native.push(said("native", built.engine("postgres/native", items, Some(postgres))?));
        let (fresh, used) = served(built, Job::new(items), postgres)?;
        figures.used.push(used);
        figures.fresh.push(said("component, fresh instances", fresh));
        if reuses {
            let job = Job { reuses_instances: true, ..Job::new(items) };
            figures.reused.push(said("component, reused instances", served(built, job, postgres)?.0));
        }
    }
    Ok(figures)
}

/// A whole host, with leases, metrics and API; measured from the job's resumption.
fn served(built: &Built<'_>, job: Job, postgres: &Postgres) -> Result<(f64, PerItem)> {
    let folder = Folder::new(built.root)?;
    let host = Host::start(built, &folder, "host", &postgres.fresh_database()?, &[job])?;
    let mut client = host.client()?;
    let items = drain::fill(&mut client, JOB)?;
    let before = Usage::now(&host, postgres)?;
    let took = drain::drain(&mut client, JOB)?;
    let used = before.per_item(&Usage::now(&host, postgres)?, items);
    eprintln!(
        "for each item: {:.1} µs CPU of the host, {:.1} µs of Postgres, {:.0} bytes of WAL",
        used.host_cpu_us, used.postgres_cpu_us, used.wal_bytes
    );
    Ok((items as f64 / took.as_secs_f64(), used))
}

impl Figures {
    fn fields(&self) -> Vec<(&'static str, serde_json::Value)> {
        let figures = self.all().map(|(name, _, values)| (name, rounded(median(values), 0)));
        let ratio = |ours: &[f64], peer: &[f64]| {
            rounded(median(ours).zip(median(peer)).map(|(ours, peer)| ours / peer), 3)
        };
        let ratios = [
            ("ratio_river", ratio(&self.fresh, &self.river)),
            ("ratio_graphile", ratio(&self.fresh, &self.graphile)),
            ("ratio_native", ratio(&self.fresh, &self.native)),
            ("reused_ratio_river", ratio(&self.reused, &self.river)),
            ("reused_ratio_graphile", ratio(&self.reused, &self.graphile)),
            ("reused_ratio_native", ratio(&self.reused, &self.native)),
        ];
        let of = |figure: fn(&PerItem) -> f64| {
            rounded(median(&self.used.iter().map(figure).collect::<Vec<_>>()), 1)
        };
        let used = [
            ("fresh_host_cpu_us", of(|used| used.host_cpu_us)),
            ("fresh_postgres_cpu_us", of(|used| used.postgres_cpu_us)),
            ("fresh_wal_bytes", of(|used| used.wal_bytes)),
        ];
        figures.into_iter().chain(ratios).chain(used).collect()
    }

    /// Name in the result, label in the chart, and values of each system.
    fn all(&self) -> [(&'static str, &'static str, &[f64]); 6] {
        [
            ("river", "River (Rust)", &self.river),
            ("graphile", "graphile-worker (Node.js)", &self.graphile),
            ("pgboss", "pg-boss (Node.js)", &self.pgboss),
            ("native", "Tidemill, no-op in the host", &self.native),
            ("component_fresh", "Tidemill, an instance per item", &self.fresh),
            ("component_reused", "Tidemill, reused instances", &self.reused),
        ]
    }
}

fn plot(root: &Path, figures: &Figures) -> Result<()> {
    let measured = figures.all().into_iter().filter_map(|(_, label, values)| {
        let value = median(values)?;
        Some(Bar { label: label.to_owned(), value, is_ours: label.starts_with("Tidemill") })
    });
    let bars = bars("No-op items a second on one Postgres", &measured.collect::<Vec<_>>());
    let path = root.join(PLOT);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    std::fs::write(&path, bars).with_context(|| format!("failed to write {}", path.display()))?;
    eprintln!("wrote {PLOT}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_each_kind_of_instance() {
        let mut figures = Figures {
            river: vec![30.0, 20.0, 10.0],
            graphile: vec![40.0],
            pgboss: vec![5.0],
            native: vec![12.0],
            fresh: vec![6.0],
            reused: vec![],
            used: vec![],
        };
        let field = |figures: &Figures, name: &str| {
            figures.fields().into_iter().find(|(field, _)| *field == name).unwrap().1
        };
        assert_eq!(field(&figures, "river"), 20);
        assert_eq!(field(&figures, "component_reused"), serde_json::Value::Null);
        assert_eq!(field(&figures, "ratio_river"), 0.3);
        assert_eq!(field(&figures, "reused_ratio_river"), serde_json::Value::Null);
        figures.reused = vec![10.0];
        assert_eq!(field(&figures, "reused_ratio_river"), 0.5);
        assert_eq!(field(&figures, "ratio_graphile"), 0.15);
    }
}
