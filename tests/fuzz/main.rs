//! Feeds malformed inputs to every parser of foreign data: descriptors, configurations, cron expressions,
//! requests, and values from guests. `cargo xtask fuzz` runs this.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod mutate;
mod targets;

#[path = "../zoo/nothing.rs"]
mod nothing;
#[path = "../it/support"]
#[expect(dead_code, reason = "the scenario tests use the rest")]
mod support {
    pub mod http;
    pub mod plugins;
    pub mod process;
    pub mod random;
    pub mod site;
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mutate::Mutator;
use support::random::Random;
use targets::{TARGETS, Target};

/// An input that takes longer than this counts as a failure, like a panic.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let number = |name: &str, or: u64| {
        std::env::var(name).map_or(or, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let (inputs, requests) = (number("FUZZ_INPUTS", 20_000), number("FUZZ_REQUESTS", 2_000));
    let random = Random::new();
    let seed = random.seed;
    let mut bad = 0;
    for target in TARGETS {
        bad += run(target, Mutator::new(seed, target.seeds), inputs);
    }
    let api = api::run(Mutator::new(seed, api::SEEDS), requests);
    bad += api;
    println!(
        "{{\"targets\":{},\"inputs\":{},\"bad\":{bad},\"seed\":{seed}}}",
        TARGETS.len() + 1,
        TARGETS.len() as u64 * inputs + requests
    );
    ExitCode::from(u8::from(bad > 0))
}

/// Returns how many inputs caused a panic or took too long.
fn run(target: &Target, mut mutator: Mutator, inputs: u64) -> u64 {
    let (began, mut bad, mut taken) = (Instant::now(), 0, 0);
    for _ in 0..inputs {
        let input = mutator.next();
        let at = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(good) if at.elapsed() < INPUT_TIME_MAX => taken += u64::from(good),
            ended => {
                bad += 1;
                let what = if ended.is_ok() { "too slow" } else { "a panic" };
                eprintln!(
                    "{}: {what} after {:?} by {}",
                    target.name,
                    at.elapsed(),
                    keep(target.name, &input).display()
                );
            }
        }
    }
    eprintln!(
        "{}: {inputs} inputs, {taken} of them good, in {:.1} s",
        target.name,
        began.elapsed().as_secs_f64()
    );
    // Without a valid input, only the first check was exercised.
    assert!(taken > 0, "{}: no input was good: the run proves nothing", target.name);
    bad
}

/// Saves an input to a file for inspection.
fn keep(target: &str, input: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir().join("tidemill-fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let hash = input.iter().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let file = folder.join(format!("{target}-{hash:016x}"));
    std::fs::write(&file, input).unwrap();
    file
}
