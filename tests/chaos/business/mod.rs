//! Hours of the demo's business in minutes: two hosts on Postgres do all its jobs on a fast clock while they
//! are killed, services fail and plugins are swapped. Then the business's tables are checked.

mod checker;
mod customers;
mod faults;
mod records;
mod report;
mod settling;
mod town;

use std::sync::Arc;
use std::time::Duration;

use demo::services::NAMES;
use jiff::SignedDuration;
use tokio::time::Instant;

use self::customers::Customers;
use self::faults::Hosts;
use self::report::Report;
use self::town::Town;
use crate::support::random::Random;

/// Simulated seconds per real second, at most: two cores complete no more work at a higher speed.
const SPEED_MAX: f64 = 120.0;
/// Real seconds of faults, at least: less does not include a takeover of a killed host's work.
const REAL_SECONDS_MIN: f64 = 45.0;

/// Returns whether all checks passed.
pub async fn run(hours: f64) -> bool {
    let random = Random::new();
    let seed = random.seed;
    let lasts = SignedDuration::from_secs_f64(hours * 3_600.0);
    let speed = (hours * 3_600.0 / REAL_SECONDS_MIN).min(SPEED_MAX);
    let town = Arc::new(Town::new(lasts, speed).await);
    let mut hosts = Hosts::start(town.clone()).await;
    let mut customers = Customers::new(town.clone());
    let until = Instant::now() + Duration::from_secs_f64(lasts.as_secs_f64() / speed);
    eprintln!("{hours} hours from {} on, {speed} times as fast", town.began);

    let (swaps, sessions) = tokio::select! {
        done = torment(&town, &mut hosts, random, until) => done,
        _ = customers.live() => unreachable!("customers go on until they are dropped"),
    };
    customers.leave().await;
    eprintln!("{swaps} files swapped; the last customer has gone at {}", town.clock.now());
    let manual = settling::settle(&town).await;

    let open = crate::checker::sessions_open().await;
    let ended_at = town.clock.now();
    let fired = faults::fired(&town, hosts.killed, sessions).await;
    hosts.end().await;
    let mut checks = checker::check(&town, ended_at).await;
    checks.push(checker::Check::new("hosts leave no transaction open", 0, open));
    let report = Report { hours, fired, checks, figures: checker::figures(&town).await };
    eprintln!("{manual} items were tried again manually");
    report.print();
    let failures = report.failures();
    failures.iter().for_each(|failure| eprintln!("seed {seed}: {failure}"));
    failures.is_empty()
}

/// Runs all kinds of faults in parallel, each at its own pace; returns the numbers of swaps and ended
/// sessions.
async fn torment(town: &Arc<Town>, hosts: &mut Hosts, mut random: Random, until: Instant) -> (u64, u64) {
    let seed = random.seed;
    let of = |n: u64| Random::of(seed.wrapping_mul(31).wrapping_add(n * 1_000_003));
    let mood = |n: usize| faults::moods(town.clone(), NAMES[n], until, of(n as u64));
    let (_, swaps, sessions, ..) = tokio::join!(
        hosts.torment(until, &mut random),
        faults::swaps(town.clone(), until, of(9)),
        faults::sessions(until),
        faults::cuts(town.clone(), until),
        mood(0),
        mood(1),
        mood(2),
        mood(3),
    );
    (swaps, sessions)
}
