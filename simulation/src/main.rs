//! A seeded simulation of hosts that share one store. The decisions are made by the product's own code: its
//! fenced statements, on a real SQLite, and its rules (states, outcomes, schedules, trust in leases). The
//! simulator provides everything that can go wrong around them: time, crashes, stopped processes, lost
//! answers, late requests. A seed always produces the same sequence of events.

mod attempt;
mod checks;
mod dice;
mod faults;
mod model;
mod people;
mod step;
mod trouble;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use crate::faults::FAULTS;
use crate::world::World;

const USAGE: &str = "usage: simulate [--seeds N] [--seed S [--fault N]]";
/// SQLite's answer to a text that is no statement.
const NO_SQL: &str = "(code: 1)";
const SEEDS_DEFAULT: u64 = 1_000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Result<Option<u64>> {
        let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
        let text = args.get(at + 1).with_context(|| format!("{name} needs a number; {USAGE}"))?;
        Ok(Some(text.parse().with_context(|| format!("{name} {text} is no number; {USAGE}"))?))
    };
    let (seeds, seed, fault) = (number("--seeds")?, number("--seed")?, number("--fault")?);
    let known = [seeds, seed, fault].iter().flatten().count() * 2;
    anyhow::ensure!(args.len() == known, "{USAGE}");
    store::simulation::REWRITE.get_or_init(|| faults::with_fault);
    match seed {
        Some(seed) => replay(seed, fault.map(|fault| fault as usize)),
        None => all(seeds.unwrap_or(SEEDS_DEFAULT)),
    }
}

/// Runs one seed and prints its trace.
fn replay(seed: u64, fault: Option<usize>) -> Result<bool> {
    let story = story(seed, fault, true)?;
    for line in &story.trace {
        println!("{line}");
    }
    for violation in &story.violations {
        println!("VIOLATED: {violation}");
    }
    Ok(story.violations.is_empty())
}

/// Runs all seeds on the unchanged product, then each fault until a seed detects it.
fn all(seeds: u64) -> Result<bool> {
    let began = Instant::now();
    anyhow::ensure!(
        story(0, None, true)?.trace == story(0, None, true)?.trace,
        "one seed produced two traces"
    );
    let violations = each_seed(seeds)?;
    eprintln!("{seeds} seeds, {violations} of them violated, {:.1} s", began.elapsed().as_secs_f64());
    let found = each_fault(seeds)?;
    eprintln!("faults looked for after {:.1} s", began.elapsed().as_secs_f64());
    let total = FAULTS.len();
    println!(
        "{}",
        json!({ "seeds": seeds, "violations": violations, "mutants_found": found, "mutants_total": total })
    );
    Ok(violations == 0 && found == total)
}

fn each_seed(seeds: u64) -> Result<u64> {
    let violated = AtomicU64::new(0);
    in_parallel(seeds, |seed| {
        let story = story(seed, None, false)?;
        if let Some(first) = story.violations.first() {
            violated.fetch_add(1, Ordering::Relaxed);
            eprintln!("seed {seed}: {first}; replay with: cargo xtask simulate --seed {seed}");
        }
        Ok(())
    })?;
    Ok(violated.into_inner())
}

fn each_fault(seeds: u64) -> Result<usize> {
    let found = AtomicU64::new(0);
    in_parallel(FAULTS.len() as u64, |number| {
        let fault = number as usize;
        for seed in 0..seeds {
            let story = story(seed, Some(fault), false);
            // A statement that the store itself finds to be wrong counts as found, too.
            let first = story
                .map_or_else(|error| Some(format!("{error:#}")), |story| story.violations.into_iter().next());
            anyhow::ensure!(
                !first.as_ref().is_some_and(|first| first.contains(NO_SQL)),
                "fault {number}, {}: {}",
                FAULTS[fault].name,
                first.unwrap_or_default()
            );
            if let Some(first) = first {
                found.fetch_add(1, Ordering::Relaxed);
                eprintln!("fault {number}, {}: found by seed {seed}: {first}", FAULTS[fault].name);
                return Ok(());
            }
        }
        match faults::not_made() {
            Some(text) => eprintln!(
                "fault {number}, {}: the store has no statement {text:?} like that",
                FAULTS[fault].name
            ),
            None => eprintln!("fault {number}, {}: NOT found in {seeds} seeds", FAULTS[fault].name),
        }
        Ok(())
    })?;
    Ok(found.into_inner() as usize)
}

/// Runs `work` for each number below `end`, on all cores.
fn in_parallel(end: u64, work: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    // A simulated run mostly waits for its database's threads.
    let threads = 3 * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return;
                    }
                    if let Err(error) = work(number) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

struct Story {
    trace: Vec<String>,
    violations: Vec<String>,
}

fn story(seed: u64, fault: Option<usize>, trace: bool) -> Result<Story> {
    faults::put(fault);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut world = World::new(seed, trace).await?;
        world.run().await.with_context(|| format!("seed {seed}"))?;
        Ok(Story { trace: world.trace.unwrap_or_default(), violations: world.model.violations })
    })
}
