//! Loads real hosts for minutes while they, their database and the connection between them fail repeatedly.
//! Then it checks whether every promise was kept. `cargo xtask chaos` runs this and sets its parameters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ask;
mod business;
mod checker;
mod fault;
mod hosts;
mod load;
mod postgres;
mod report;
mod site;
mod wire;

#[path = "../it/support"]
#[expect(dead_code, reason = "the scenario tests use the rest")]
mod support {
    pub mod database;
    pub mod invariants;
    pub mod plugins;
    pub mod process;
    pub mod random;
    pub mod wait;
}

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use checker::{check, check_api, check_sessions, recovery_times};
use hosts::Hosts;
use load::{Load, Log};
use postgres::Postgres;
use report::Report;
use site::Site;
use support::database::Kind;
use support::random::Random;

/// Items that the client adds; runs find another fifth of that.
const ITEMS_PER_SECOND: u32 = 40;
/// When the faults are over, all open work has to end within this time.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if let Ok(hours) = std::env::var("CHAOS_BUSINESS_HOURS") {
        let hours = hours.parse().expect("CHAOS_BUSINESS_HOURS is a number");
        return tokio::select! {
            good = business::run(hours) => ExitCode::from(u8::from(!good)),
            _ = abandoned() => ExitCode::FAILURE,
        };
    }
    let kind = match reported("CHAOS_DB").as_str() {
        "sqlite" => Kind::Sqlite,
        "postgres" => Kind::Postgres,
        other => panic!("CHAOS_DB is {other:?}: use sqlite or postgres"),
    };
    let seconds = reported("CHAOS_SECONDS").parse().expect("CHAOS_SECONDS is a number");
    tokio::select! {
        good = run(kind, Duration::from_secs(seconds), reported("CHAOS_TIER")) => ExitCode::from(u8::from(!good)),
        _ = abandoned() => ExitCode::FAILURE,
    }
}

fn reported(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start this as `cargo xtask chaos`"))
}

/// The parent process holds the other end of stdin; when it closes, the report is no longer wanted.
async fn abandoned() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

async fn run(kind: Kind, time: Duration, tier: String) -> bool {
    let random = Random::new();
    let seed = random.seed;
    let site = Arc::new(Site::new(kind).await);
    let mut hosts = Hosts::start(site.clone(), random).await;
    let load = Load::new(site.clone());
    let until = Instant::now() + time;
    let mut postgres = Postgres::new(site.clone(), Random::of(seed + 2));
    let faults = async {
        tokio::join!(hosts.torment(until), async {
            if kind == Kind::Postgres {
                postgres.torment(until).await;
            }
        })
    };
    tokio::select! {
        _ = faults => {}
        _ = load.run(ITEMS_PER_SECOND) => {}
    }
    let log = load.log().await;
    settle(&site).await;

    let Log { acknowledged, unknown, refused } = &log;
    eprintln!("{} items acknowledged, {unknown} unknown, {refused} requests not taken", acknowledged.len());
    let mut unsound = check_api(&site, &log).await;
    unsound.extend(check_sessions(&site).await);
    let stale_seen = hosts.stale_refused().await;
    hosts.end().await;
    let mut verdict = check(&site, &log).await;
    verdict.unsound.extend(unsound);
    let mut fired: BTreeMap<_, _> = hosts.fired.clone();
    if kind == Kind::Postgres {
        fired.extend(postgres.fired());
    }
    let killed_ms = recovery_times(&site, hosts.gone.iter().filter(|gone| gone.is_killed)).await;
    let stopped_ms = recovery_times(&site, hosts.gone.iter().filter(|gone| !gone.is_killed)).await;
    eprintln!("put back: {} items of killed hosts, {} of stopped ones", killed_ms.len(), stopped_ms.len());
    let acknowledged = acknowledged.len();
    let report = Report { kind, tier, acknowledged, fired, verdict, stale_seen, killed_ms, stopped_ms };
    report.print();
    let failures = report.failures();
    failures.iter().for_each(|failure| eprintln!("seed {seed}: {failure}"));
    failures.is_empty()
}

/// Waits until no work is open. Work that is still open after a long time counts as lost.
async fn settle(site: &Site) {
    let began = Instant::now();
    while site.open().await > 0 && began.elapsed() < SETTLE_TIME_MAX {
        // tidy: sleep because another process gives no signal of its progress
        sleep(Duration::from_millis(500)).await;
    }
    eprintln!("settled {:.1} s after the last fault", began.elapsed().as_secs_f64());
}
