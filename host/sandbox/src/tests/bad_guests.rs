use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use domain::failure::{Failure, HOST_PANIC, HOST_STORE};
use domain::job::JobSpec;
use domain::limits::{KIB, Limits, MIB};
use domain::outcome::Outcome;
use domain::plugin::VersionState;
use domain::runner::CallReport;
use test_support::needs;

use super::{Bench, FakeScope, Gate, code, job, message, witness};
use crate::{Sandbox, SandboxConfig};

fn limited(plugin: &str, limits: Limits) -> Arc<JobSpec> {
    Arc::new(JobSpec { limits, ..job(plugin) })
}

/// Why the only version of `guest` was rejected.
async fn rejected(bench: &Bench, guest: &str) -> String {
    assert_eq!(bench.digest(guest), None);
    let versions = bench.sandbox.versions();
    let version = versions.iter().find(|version| version.plugin.as_str() == guest).unwrap();
    match &version.state {
        VersionState::Rejected(reason) => reason.clone(),
        other => panic!("{guest} is {other:?}"),
    }
}

#[tokio::test]
async fn an_endless_loop_runs_into_its_cpu_limit() {
    needs!(Plugins);
    let bench = Bench::with(&["loop-in-process", "noop"]).await;
    let limits = Limits { cpu_time: Duration::from_millis(100), ..Limits::DEFAULT };
    let report = bench.process_as(limited("loop-in-process", limits), "").await;
    assert_eq!(code(&report), "cpu-limit");
    assert!(report.usage.wall_us >= 100_000, "{:?}", report.usage);
    bench.still_works().await;
}

#[tokio::test]
async fn an_endless_loop_runs_into_its_wall_limit() {
    needs!(Plugins);
    let bench = Bench::with(&["loop-in-process", "noop"]).await;
    let limits = Limits {
        cpu_time: Duration::from_secs(300),
        wall_time: Duration::from_millis(100),
        ..Limits::DEFAULT
    };
    let report = bench.process_as(limited("loop-in-process", limits), "").await;
    assert_eq!(code(&report), "wall-timeout");
    bench.still_works().await;
}

#[tokio::test]
async fn endless_loop_does_not_delay_other_guests() {
    needs!(Plugins);
    let bench = Bench::with(&["loop-in-process", "noop"]).await;
    // On one thread: the loop has to yield to the other attempt.
    let (looping, _) = tokio::join!(bench.process("loop-in-process", ""), bench.still_works());
    assert_eq!(code(&looping), "cpu-limit");
}

#[tokio::test]
async fn a_loop_in_describe_is_rejected() {
    needs!(Plugins);
    let bench = Bench::with(&["loop-in-describe", "noop"]).await;
    let reason = rejected(&bench, "loop-in-describe").await;
    assert!(reason.starts_with("describe() failed: cpu-limit: it computed for more than 1s"), "{reason}");
    assert!(reason.ends_with("raise plugins.describe_time"), "a job's limits have no effect: {reason}");
    bench.still_works().await;
}

#[tokio::test]
async fn a_memory_eater_gets_no_more_than_its_limit() {
    needs!(Plugins);
    let bench = Bench::with(&["memory-eater", "noop"]).await;
    let limits = Limits { memory_bytes: 8 * MIB, ..Limits::DEFAULT };
    let report = bench.process_as(limited("memory-eater", limits), "").await;
    assert_eq!(code(&report), "memory-limit");
    let held = report.usage.memory_bytes_max;
    assert!(held > 4 * MIB as u64 && held <= 8 * MIB as u64, "held {held} bytes");
    bench.still_works().await;
}

#[tokio::test]
async fn a_panic_is_reported_with_its_message() {
    needs!(Plugins);
    let bench = Bench::with(&["panics", "noop"]).await;
    let report = bench.process("panics", "").await;
    assert_eq!(code(&report), "guest-panic");
    assert!(message(&report).starts_with("fixture panic on item item-1"), "{}", message(&report));
    assert!(report.log.contains("fixture panic on item item-1"), "{}", report.log);
    bench.still_works().await;
}

#[tokio::test]
async fn a_huge_result_is_refused_and_a_long_note_is_cut() {
    needs!(Plugins);
    let bench = Bench::with(&["huge-result", "noop"]).await;
    let report = bench.process("huge-result", r#"{"mib": 16}"#).await;
    assert_eq!(code(&report), "hostcall-limit");
    let report = bench.process("huge-result", r#"{"mib": 1}"#).await;
    let Ok(Outcome::Resolved { note: Some(note) }) = report.result else {
        panic!("{:?}", report.result);
    };
    assert!(note.len() <= Limits::DEFAULT.text_bytes && note.ends_with("(cut)"));
    bench.still_works().await;
}

#[tokio::test]
async fn a_page_with_too_many_items_is_refused() {
    needs!(Plugins);
    let mut huge = job("huge-result");
    huge.config.insert("huge_discovery".to_owned(), "true".to_owned());
    let bench = Bench::with_jobs(&["huge-result", "noop"], vec![huge, job("noop")]).await;
    assert_eq!(code(&bench.discover("huge-result", None, 5).await), "page-too-large");
    assert_eq!(code(&bench.discover("huge-result", None, 10).await), "hostcall-limit");
    bench.still_works().await;
}

#[tokio::test]
async fn a_payload_above_the_limit_is_named() {
    let mut noop = job("noop");
    noop.limits.payload_bytes = 64 * KIB;
    let page = crate::guest::bindings::types::Page {
        items: vec![crate::guest::bindings::types::Found {
            key: "k-1".to_owned(),
            payload: "x".repeat(64 * KIB + 1),
        }],
        next: None,
    };
    let failure = crate::guest::convert::page(page, 10, &noop.limits).unwrap_err();
    let error = failure.error().unwrap();
    assert_eq!(error.code, "result-too-large");
    assert!(error.message.contains("\"k-1\"") && error.message.contains("65536"), "{}", error.message);
}

#[tokio::test]
async fn flood_of_logs_is_bounded() {
    needs!(Plugins);
    let bench = Bench::with(&["log-flood", "noop"]).await;
    let report = bench.process("log-flood", "").await;
    let limits = Limits::DEFAULT;
    let (kept, last) = report.log.trim_end().rsplit_once('\n').unwrap();
    assert!(report.log.len() <= limits.log_bytes + 64, "{} bytes", report.log.len());
    assert!(last.starts_with('(') && last.ends_with(" more lines dropped)"), "{last}");
    assert!(kept.lines().all(|line| line.starts_with("INFO ")), "a forged line");
    assert!(!kept.contains(['\x1b', '\r']), "a terminal escape");
    bench.still_works().await;
}

#[tokio::test]
async fn a_sleeper_is_ended_by_its_wall_limit() {
    needs!(Plugins);
    let bench = Bench::with(&["sleeper", "noop"]).await;
    let limits = Limits { wall_time: Duration::from_millis(50), ..Limits::DEFAULT };
    let report = bench.process_as(limited("sleeper", limits), r#"{"ms": 3600000}"#).await;
    assert_eq!(code(&report), "wall-timeout");
    bench.still_works().await;
}

#[tokio::test]
async fn sleeping_costs_no_cpu_time() {
    needs!(Plugins);
    let bench = Bench::with(&["sleeper"]).await;
    let limits = Limits { cpu_time: Duration::from_millis(500), ..Limits::DEFAULT };
    let report = bench.process_as(limited("sleeper", limits), r#"{"ms": 700}"#).await;
    assert!(matches!(report.result, Ok(Outcome::Resolved { .. })), "{:?}", report.result);
}

#[tokio::test]
async fn components_with_invalid_describe_world_or_requests_are_rejected() {
    needs!(Plugins);
    let bench = Bench::with(&["bad-describe", "wrong-world", "over-asking", "noop"]).await;
    let reason = rejected(&bench, "bad-describe").await;
    assert!(reason.starts_with("describe() did not answer with a valid document"), "{reason}");
    let reason = rejected(&bench, "wrong-world").await;
    assert!(reason.starts_with("it does not export tidemill:job/job@0.1.x"), "{reason}");
    let reason = rejected(&bench, "over-asking").await;
    assert_eq!(
        reason,
        "job over-asking: import tidemill:job/sql@0.1.0: statement \"steal\": datasource \
         \"secrets-db\" is not granted; add it under [jobs.over-asking.grants]"
    );
    bench.still_works().await;
}

/// The code of a failure of the host.
fn of_host(report: &CallReport<Outcome>) -> &str {
    match &report.result {
        Err(Failure::Host(error)) => &error.code,
        other => panic!("expected a failure of the host, got {other:?}"),
    }
}

/// The guest gets the error and fails with its own message, which is not the one reported.
#[tokio::test]
async fn unavailable_store_is_not_the_guests_fault() {
    needs!(Plugins);
    let mut bench = Bench::with_jobs(&["witness", "noop"], vec![witness(), job("noop")]).await;
    bench.scope = Arc::new(FakeScope { away: true, ..FakeScope::default() });
    let report = bench.process("witness", "").await;
    assert_eq!((of_host(&report), message(&report)), (HOST_STORE, "unavailable: no answer"));
    bench.scope = Arc::default();
    assert!(bench.process("witness", "").await.result.is_ok());
}

#[tokio::test]
async fn a_panic_of_the_host_costs_one_attempt() {
    needs!(Plugins);
    let mut bench = Bench::with_jobs(&["witness", "noop"], vec![witness(), job("noop")]).await;
    bench.scope = Arc::new(FakeScope { panics: true, ..FakeScope::default() });
    let report = bench.process("witness", "").await;
    assert_eq!(of_host(&report), HOST_PANIC);
    bench.scope = Arc::default();
    assert!(bench.process("witness", "").await.result.is_ok());
    bench.still_works().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_its_slot() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    let config = SandboxConfig { attempts_max: 1, ..SandboxConfig::new(dir.path(), Clock::steady()) };
    let mut bench = Bench::with_jobs(&["witness", "noop"], vec![witness(), job("noop")]).await;
    bench.sandbox = Sandbox::new(config, None).unwrap();
    bench.dir = dir;
    bench.drop_in("witness", "witness");
    bench.drop_in("noop", "noop");
    bench.rescan().await;
    let gate = Arc::new(Gate::default());
    *bench.scope.gate.lock().unwrap() = Some(gate.clone());
    tokio::select! {
        report = bench.process("witness", "") => panic!("{report:?}"),
        () = gate.arrived.notified() => {}
    }
    bench.still_works().await;
    assert_eq!(bench.scope.calls(), Vec::<String>::new());
}

/// Each alone would yield at each tick. All together they would make the short ones wait for as many ticks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn computing_guests_leave_cpu_time_for_short_ones() {
    needs!(Plugins);
    const LOOPS: usize = 16;
    let bench = Arc::new(Bench::with(&["loop-in-process", "sleeper"]).await);
    let limits = Limits { cpu_time: Duration::from_millis(500), ..Limits::DEFAULT };
    let job = limited("loop-in-process", limits);
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..LOOPS {
        let (bench, job) = (bench.clone(), job.clone());
        loops.spawn(async move { bench.process_as(job, "").await });
    }
    // On the same threads (the test has its own). Each waits for something, as attempts do.
    let short = tokio::spawn(async move {
        for _ in 0..60 {
            assert!(bench.process("sleeper", r#"{"ms": 1}"#).await.result.is_ok());
        }
    });
    short.await.unwrap();
    let ended = std::iter::from_fn(|| loops.try_join_next()).count();
    assert!(ended < LOOPS / 2, "{ended} of {LOOPS} loops came to their end before 60 short attempts did");
}
