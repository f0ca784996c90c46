//! Components that are built to overload a compiler: they end their compiler process, and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use domain::runner::Readiness;
use sandbox::Bounds;
use test_support::needs;

use super::{SOON, Scene};
use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job};
use crate::support::plugins;

/// A number in WebAssembly's encoding.
fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
    [&[id], leb(bytes.len()).as_slice(), bytes].concat()
}

/// A valid component with one core module with one function.
fn component(function: &[u8]) -> Vec<u8> {
    let function = [&[1], leb(function.len()).as_slice(), function].concat();
    let parts = [section(1, b"\x01\x60\0\0"), section(3, b"\x01\0"), section(10, &function)].concat();
    let module = [b"\0asm\x01\0\0\0".as_slice(), &parts].concat();
    [b"\0asm\x0d\0\x01\0".as_slice(), &section(1, &module)].concat()
}

/// Nested loops: each round changes all variables and may jump back to each loop. So the head of each loop
/// has to merge the values of every variable from every jump to it.
fn bomb(variables: usize, loops: usize, rounds: usize) -> Vec<u8> {
    // variable += 1
    let change = |n| [[0x20].as_slice(), &leb(n), &[0x41, 1, 0x6a, 0x21], &leb(n)].concat();
    // if (first variable) continue loop
    let jump = |n| [[0x20, 0, 0x0d].as_slice(), &leb(n)].concat();
    let round: Vec<u8> = (0..variables).flat_map(change).chain((0..loops).flat_map(jump)).collect();
    let declared = [[1].as_slice(), &leb(variables), &[0x7f]].concat();
    component(&[declared, [0x03, 0x40].repeat(loops), round.repeat(rounds), vec![0x0b; loops + 1]].concat())
}

/// The job `versioned`, and another one without a plugin, on a host whose compiler has these bounds.
async fn scene_bounded(bounds: Bounds) -> Scene {
    let (databases, job, other) = (Databases::new(Kind::Sqlite).await, job("versioned"), job("noop"));
    plugins::install(&databases.dir.path().join("plugins"), "versioned-a", "versioned");
    let host = Host::start_bounded(&databases, vec![job.clone(), other], bounds).await;
    Scene { databases, host, job }
}

/// Whether a compiler with these bounds is running; each test has its own bounds.
fn compiling(bounds: &Bounds) -> bool {
    let words = format!("compile-plugin\0{}\0{}\0", bounds.time.as_secs(), bounds.address_space_bytes);
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    processes.filter_map(|words| fs::read_to_string(words).ok()).any(|said| said.contains(&words))
}

async fn until_no_compiler_runs(bounds: &Bounds) {
    let gone = async {
        while compiling(bounds) {
            // tidy: sleep because another process gives no signal when it is gone
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the compiler is gone");
}

/// Replaces a job's plugin with a bomb; work continues while its compiler runs and after it ended.
async fn defused(bounds: Bounds, bomb: &[u8], among: &str) {
    let mut scene = scene_bounded(bounds.clone()).await;
    let good = scene.digest();
    scene.replace(bomb);
    let began = Instant::now();
    scene.host.until("it is being compiled", |_| compiling(&bounds)).await;
    let mut slowest = Duration::ZERO;
    while compiling(&bounds) {
        let asked = Instant::now();
        assert_eq!(scene.note().await, "a");
        slowest = slowest.max(asked.elapsed());
    }
    let lasted = began.elapsed();
    let reason = scene.refusal(among).await;
    eprintln!("{reason}: after {lasted:?}; the slowest run meanwhile took {slowest:?}");
    assert_eq!(scene.digest(), good);
    scene.install("versioned-b");
    scene.swapped(good).await;
    assert_eq!(scene.note().await, "b");
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_compilation_is_stopped_while_work_continues() {
    needs!(Product);
    let bounds = Bounds { time: Duration::from_secs(5), ..Bounds::DEFAULT };
    // 49 KB, and half a minute of compilation with a development build.
    defused(bounds, &bomb(200, 200, 20), "plugins.compile_time)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compilation_without_memory_ends_while_work_continues() {
    needs!(Product);
    let bounds = Bounds { address_space_bytes: 384 << 20, ..Bounds::DEFAULT };
    defused(bounds, &bomb(1_000, 100, 10), "its compilation took more than 384 MiB of memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_leaves_no_compiler_behind() {
    needs!(Product);
    let bounds = Bounds { time: Duration::from_secs(29), ..Bounds::DEFAULT };
    let mut scene = scene_bounded(bounds.clone()).await;
    scene.replace(&bomb(200, 200, 20));
    scene.host.until("it is being compiled", |_| compiling(&bounds)).await;
    let began = Instant::now();
    scene.host.app.stop().await;
    assert!(began.elapsed() < bounds.time, "it does not wait for the compiler");
    until_no_compiler_runs(&bounds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_compilation_delays_no_other_plugin() {
    needs!(Product);
    let bounds = Bounds { time: Duration::from_secs(28), ..Bounds::DEFAULT };
    let mut scene = scene_bounded(bounds.clone()).await;
    let a = scene.digest();
    scene.replace(&bomb(200, 200, 20));
    scene.host.until("it is being compiled", |_| compiling(&bounds)).await;
    plugins::install(&scene.host.plugins, "noop", "noop");
    let noop = job("noop");
    let ready = move |host: &Host| matches!(host.app.engine.readiness(&noop), Readiness::Ready(_));
    scene.host.until("the other one runs", ready).await;
    assert!(compiling(&bounds), "the bomb is not done yet");
    assert_eq!(scene.digest(), a);

    scene.install("versioned-b");
    scene.swapped(a).await;
    assert_eq!(scene.note().await, "b");
    // The bomb's file is gone, so its compiler is stopped.
    until_no_compiler_runs(&bounds).await;
    scene.host.app.stop().await;
}
