//! One host under full load whose plugin is swapped repeatedly, by rename. Prints one JSON line: the numbers
//! of lost and repeated items, and the time until the new version finished its first item.
//! Started by `cargo xtask bench swap`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod figures;
mod load;
mod site;

#[path = "../it/support"]
#[expect(dead_code, reason = "the scenario tests use the rest")]
mod support {
    pub mod database;
    pub mod invariants;
    pub mod plugins;
    pub mod process;
    pub mod random;
}

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use check::check;
use figures::Figures;
use site::Site;
use support::random::Random;

/// Longest pause between two swaps: some attempts begin on each version, and swaps and host scans are not in
/// step.
const REST_MAX: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let swaps = std::env::var("SWAPS").expect("SWAPS is not set: start this as `cargo xtask bench swap`");
    let swaps = swaps.parse().expect("SWAPS is a number");
    tokio::select! {
        good = run(swaps) => ExitCode::from(u8::from(!good)),
        _ = abandoned() => ExitCode::FAILURE,
    }
}

/// The parent process holds the other end of stdin; when it closes, the result is no longer wanted.
async fn abandoned() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

async fn run(swaps: usize) -> bool {
    let mut random = Random::new();
    let site = Site::start().await;
    let mut figures = Figures::default();
    let first = site.swap(0);
    let mut digests = vec![first.digest.clone()];
    let swapping = async {
        site.first_item(&first).await;
        for n in 1..=swaps {
            random.moment(REST_MAX).await;
            let swapped = site.swap(n);
            site.first_item(&swapped).await;
            figures.note(swapped.renamed.elapsed(), site.memory(), site.backlog().await);
            digests.push(swapped.digest);
        }
    };
    tokio::select! {
        never = load::keep_busy(&site) => match never {},
        _ = swapping => {}
    }
    load::settle(&site).await;
    let verdict = check(&site, &digests).await;
    site.stop().await;
    figures.print(&verdict);
    let failures = [figures.failures(), verdict.failures()].concat();
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    failures.is_empty()
}
