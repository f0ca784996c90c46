//! The same targets, guided by coverage: libFuzzer with the compiler's own counters, no nightly toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::test::Failed;
use crate::{host, sh};

pub const MANIFEST: &str = "fuzz/Cargo.toml";
const TARGETS: [&str; 4] = ["describe", "config", "schedule", "values"];

/// The flags of `cargo fuzz` on Linux, without a sanitizer: sanitizers need a nightly compiler, and our code
/// has almost no unsafe part.
const COUNTERS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Feeds each target in sequence for `seconds`, starting with the inputs that earlier runs kept.
pub fn run(root: &Path, seconds: u64) -> Result<()> {
    let mut steps = Steps::new(1 + TARGETS.len());
    let binary = steps.run("building the guided targets", || build(root))?;
    let mut all = Tally::default();
    for target in TARGETS {
        let tally = steps.run(target, || feed(root, &binary, target, seconds))?;
        all = Tally {
            inputs: all.inputs + tally.inputs,
            reached: all.reached + tally.reached,
            bad: all.bad + tally.bad,
        };
    }
    println!(
        "{{\"targets\":{},\"inputs\":{},\"reached\":{},\"bad\":{}}}",
        TARGETS.len(),
        all.inputs,
        all.reached,
        all.bad
    );
    if all.bad == 0 { Ok(()) } else { Err(Failed(1).into()) }
}

fn build(root: &Path) -> Result<PathBuf> {
    // With an explicit target, code that runs during the build (macros, build scripts) gets no counters.
    let triple = triple(root)?;
    let folder = host::target(root).join("fuzz");
    sh::run(
        host::cargo(root)
            .args(["build", "--release", "--locked", "--manifest-path", MANIFEST, "--target", &triple])
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", COUNTERS),
    )?;
    Ok(folder.join(triple).join("release/tidemill-fuzz"))
}

fn triple(root: &Path) -> Result<String> {
    let version = sh::output(Command::new("rustc").current_dir(root).arg("-vV"))?;
    let triple = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("`rustc -vV` names no host")?.to_owned())
}

#[derive(Default)]
struct Tally {
    inputs: u64,
    /// Places in the code that some input reached.
    reached: u64,
    bad: u64,
}

fn feed(root: &Path, binary: &Path, target: &str, seconds: u64) -> Result<Tally> {
    let folder = host::target(root).join("fuzz");
    let (corpus, bad) = (folder.join("corpus").join(target), folder.join("bad").join(target));
    for folder in [&corpus, &bad] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let output = Command::new(binary)
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", bad.display()))
        .args(["-timeout=5", "-rss_limit_mb=2048", "-max_len=32768", "-print_final_stats=1"])
        .env("TIDEMILL_FUZZ_TARGET", target)
        .output()
        .with_context(|| format!("failed to start {}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let tally = tally(&said, output.status.success());
    eprintln!("{target}: {} inputs, {} places reached", tally.inputs, tally.reached);
    if tally.bad > 0 {
        let lines: Vec<&str> = said.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        eprintln!("{target}: the input is in {}", bad.display());
    }
    Ok(tally)
}

/// Parses libFuzzer's progress lines (`cov: 812 ft: …`) and its last `stat::number_of_executed_units: 4242`.
fn tally(said: &str, ended_well: bool) -> Tally {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let inputs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let reached = said.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next());
    let inputs = number(inputs);
    // A run without inputs proves nothing, so it counts as bad.
    Tally { inputs, reached: number(reached), bad: u64::from(!ended_well || inputs == 0) }
}
