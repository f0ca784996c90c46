//! Runs malicious plugins one by one on a real host beside a normal job. Then it checks whether the host, the
//! neighbour job and the memory are unaffected. `cargo xtask zoo` runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod guest;
mod guests;
mod host;
mod nothing;
mod random;
mod servers;
mod trial;

#[path = "../it/support"]
#[expect(dead_code, reason = "the scenario tests use the rest")]
mod support {
    pub mod database;
    pub mod http;
    pub mod plugins;
    pub mod process;
    pub mod site;
}

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use guest::Guest;
use host::Host;
use trial::{Verdict, try_out};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tokio::select! {
        good = run() => ExitCode::from(u8::from(!good)),
        () = abandoned() => ExitCode::FAILURE,
    }
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

async fn run() -> bool {
    if let Some(folder) = std::env::var_os("ZOO_RANDOM") {
        let tally = random::run(folder.as_ref()).await;
        tally.print();
        return tally.good();
    }
    let only = std::env::var("ZOO_ONLY").unwrap_or_default();
    let servers = guests::Servers {
        slow: servers::endless(b"x".to_vec(), Duration::from_millis(200)).await,
        endless: servers::endless(vec![b'x'; 64 << 10], Duration::ZERO).await,
    };
    let all: Vec<Guest> =
        guests::all(&servers).into_iter().filter(|guest| guest.name.contains(&only)).collect();
    let mut host = Host::start(&all).await;
    let mut verdicts = Vec::new();
    for (n, guest) in all.iter().enumerate() {
        let verdict = try_out(&mut host, guest).await;
        eprintln!("[{}/{}] {verdict}", n + 1, all.len());
        verdicts.push(verdict);
    }
    report(&verdicts)
}

fn report(verdicts: &[Verdict]) -> bool {
    let contained = verdicts.iter().filter(|verdict| verdict.wrong.is_empty()).count();
    let alive = verdicts.iter().all(|verdict| verdict.alive);
    let least = verdicts.iter().map(|verdict| verdict.neighbour).fold(f64::INFINITY, f64::min);
    println!(
        "{{\"guests\":{},\"contained\":{contained},\"host_alive\":{alive},\"neighbour_throughput_min\":{least:.2}}}",
        verdicts.len()
    );
    for verdict in verdicts.iter().filter(|verdict| !verdict.wrong.is_empty()) {
        eprintln!("not contained: {verdict}");
    }
    contained == verdicts.len() && contained > 0
}
