//! Instances that the items of one claim share (`isolation = "batch"`). The guest `remembers` counts its items
//! in its memory, so its note tells whether an item got a fresh instance: then it is 1.

use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use domain::failure::Failure;
use domain::job::{Capability, JobSpec};
use domain::limits::{Limits, MIB};
use domain::origin::reach;
use domain::outcome::Outcome;
use domain::reuse::ClaimShare;
use domain::runner::{Call, CallReport, Runner};
use test_support::needs;
use tokio::net::TcpListener;

use super::{Bench, FakeScope, claimed, code, job};
use crate::SandboxConfig;
use crate::engine::{KEPT_MEMORY_BYTES, KEPT_STACK_BYTES, KEPT_TABLE_BYTES};

/// The machine may be busy with other tests, and a guest's page faults count as its CPU time.
const PATIENT: Limits =
    Limits { cpu_time: Duration::from_secs(60), wall_time: Duration::from_secs(120), ..Limits::DEFAULT };

fn remembers() -> JobSpec {
    let mut remembers = JobSpec { limits: PATIENT, ..job("remembers") };
    remembers.grants.capabilities.insert(Capability::KeyValue);
    remembers.grants.http = [reach("http://127.0.0.1").unwrap()].into();
    remembers
}

fn limited(limits: Limits) -> JobSpec {
    JobSpec { limits, ..remembers() }
}

async fn bench(job: JobSpec) -> Bench {
    Bench::with_jobs(&["remembers", "noop"], vec![job, super::job("noop")]).await
}

/// The items of one claim, which start one after the other.
struct Claim<'a> {
    bench: &'a Bench,
    job: Arc<JobSpec>,
    shares: std::vec::IntoIter<ClaimShare>,
}

impl Bench {
    fn claim(&self, plugin: &str, items: usize) -> Claim<'_> {
        Claim { bench: self, job: self.job(plugin), shares: ClaimShare::of(items).into_iter() }
    }
}

impl Claim<'_> {
    async fn next(&mut self, payload: &str) -> CallReport<Outcome> {
        self.next_in(self.bench.scope.clone(), payload).await
    }

    async fn next_in(&mut self, scope: Arc<FakeScope>, payload: &str) -> CallReport<Outcome> {
        let (job, input) = (self.job.clone(), claimed(&self.job, payload));
        let share = Some(self.shares.next().expect("the claim has another item"));
        self.bench.sandbox.process(Call { job, input, scope, share }).await
    }

    async fn note_of_next(&mut self, payload: &str) -> String {
        note(self.next(payload).await)
    }
}

fn note(report: CallReport<Outcome>) -> String {
    match report.result {
        Ok(Outcome::Resolved { note: Some(note) }) => note,
        other => panic!("{other:?}, log: {}", report.log),
    }
}

#[tokio::test]
async fn items_of_one_claim_share_an_instance_and_its_memory() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 4);
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(claim.note_of_next("").await, expected);
    }
    assert_eq!(bench.claim("remembers", 1).note_of_next("").await, "1", "another claim");
}

#[tokio::test]
async fn items_without_a_share_find_nothing_of_earlier_items() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    for _ in 0..3 {
        assert_eq!(note(bench.process("remembers", "").await), "1");
    }
}

#[tokio::test]
async fn a_guest_that_looks_for_earlier_items_finds_them_in_its_own_claim_only() {
    needs!(Plugins);
    let bench = Bench::with(&["residue", "noop"]).await;
    let mut claim = bench.claim("residue", 3);
    assert!(claim.next("").await.result.is_ok());
    let found = claim.next("").await;
    assert!(matches!(&found.result, Err(Failure::Permanent(error)) if error.code == "residue"), "{found:?}");
    assert!(claim.next("").await.result.is_ok(), "a failure ends the instance");
    assert!(bench.claim("residue", 1).next("").await.result.is_ok());
}

#[tokio::test]
async fn an_instance_is_dropped_after_every_bad_end() {
    needs!(Plugins);
    let bench = bench(limited(Limits { cpu_time: Duration::from_secs(1), ..PATIENT })).await;
    for (payload, expected) in [("fail", "told-to"), ("panic", "guest-panic"), ("loop", "cpu-limit")] {
        let mut claim = bench.claim("remembers", 3);
        assert_eq!(claim.note_of_next("").await, "1");
        assert_eq!(code(&claim.next(payload).await), expected);
        assert_eq!(claim.note_of_next("").await, "1", "after {payload}");
    }
    bench.still_works().await;
}

#[tokio::test]
async fn an_instance_is_dropped_when_its_call_times_out() {
    needs!(Plugins);
    let limits = Limits { wall_time: Duration::from_millis(500), ..PATIENT };
    let bench = bench(limited(limits)).await;
    let mut claim = bench.claim("remembers", 3);
    assert_eq!(claim.note_of_next("").await, "1");
    assert_eq!(code(&claim.next("loop").await), "wall-timeout");
    assert_eq!(claim.note_of_next("").await, "1");
    bench.still_works().await;
}

#[tokio::test]
async fn an_instance_is_dropped_when_its_call_is_cancelled() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 3);
    assert_eq!(claim.note_of_next("").await, "1");
    // The guest yields at the first tick; then the call is dropped.
    tokio::select! {
        biased;
        report = claim.next("loop") => panic!("{report:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(claim.note_of_next("").await, "1");
    bench.still_works().await;
}

/// Each of these attempts is resolved, but leaves something that could affect the next one.
#[tokio::test]
async fn an_instance_that_holds_requests_timers_or_much_memory_is_not_reused() {
    needs!(Plugins);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", server.local_addr().unwrap());
    let mut job = remembers();
    job.grants.http = [reach(&address).unwrap()].into();
    let bench = bench(job).await;
    for payload in ["handle", &format!("request {address}"), "grow 40", "want 100"] {
        let mut claim = bench.claim("remembers", 3);
        assert_eq!(claim.note_of_next("").await, "1");
        assert_eq!(claim.note_of_next(payload).await, "2", "{payload}");
        assert_eq!(claim.note_of_next("").await, "1", "after {payload}");
    }
    for payload in ["print", "bucket", "grow 8", "log 3"] {
        let mut claim = bench.claim("remembers", 2);
        claim.next(payload).await;
        assert_eq!(claim.note_of_next("").await, "2", "after {payload}");
    }
}

#[tokio::test]
async fn limits_and_logs_are_those_of_each_item() {
    needs!(Plugins);
    let bench = bench(limited(Limits { log_lines: 10, ..PATIENT })).await;
    let mut claim = bench.claim("remembers", 8);
    for n in 1..=3 {
        let report = claim.next("log 8").await;
        assert_eq!(report.log.lines().count(), 8, "{}", report.log);
        assert!(report.log.lines().all(|line| line.ends_with(&format!("of {n}"))), "{}", report.log);
    }
    for n in 4..=6 {
        let report = claim.next("print").await;
        assert_eq!(report.log, format!("INFO stdout: printed by {n}\n"));
    }
    let long = claim.next("spin 500").await.usage;
    // Half of the time: the host's part of the guest's calls does not count as the guest's.
    assert!(long.cpu_us >= 250_000, "{long:?}");
    let short = claim.next("").await;
    assert!(short.usage.cpu_us < 250_000 && short.usage.wall_us < 250_000, "{:?}", short.usage);
    assert_eq!(note(short), "8");
}

#[tokio::test]
async fn usage_is_that_of_each_item_and_memory_includes_what_remains() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 4);
    let small = claim.next("").await.usage.memory_bytes_max;
    let grown = claim.next("grow 8").await.usage.memory_bytes_max;
    assert!(grown >= small + 8 * MIB as u64, "{small} {grown}");
    for _ in 0..2 {
        let usage = claim.next("bucket").await.usage;
        assert_eq!(usage.host_calls, 1);
        assert!(usage.memory_bytes_max >= grown, "the memory is still in use");
    }
}

#[tokio::test]
async fn a_handle_that_a_guest_keeps_acts_for_the_current_item() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 3);
    let scopes: Vec<Arc<FakeScope>> = (0..3).map(|_| Arc::default()).collect();
    for scope in &scopes {
        assert!(claim.next_in(scope.clone(), "bucket").await.result.is_ok());
    }
    for (n, scope) in scopes.iter().enumerate() {
        assert_eq!(scope.calls(), [format!("set default/k-{}", n + 1)]);
    }
    drop(claim);
    assert!(scopes.iter().all(|scope| Arc::strong_count(scope) == 1), "no scope outlives its item");
}

#[tokio::test]
async fn the_scope_is_released_while_the_instance_waits() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 2);
    let scope: Arc<FakeScope> = Arc::default();
    assert!(claim.next_in(scope.clone(), "bucket").await.result.is_ok());
    assert_eq!(Arc::strong_count(&scope), 1);
    assert_eq!(claim.note_of_next("").await, "2");
}

#[tokio::test]
async fn a_swap_between_items_ends_the_reuse() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 4);
    assert_eq!(claim.note_of_next("").await, "1");
    bench.drop_in("versioned-b", "remembers");
    assert_eq!(bench.rescan().await.activated.len(), 1);
    assert_eq!(claim.note_of_next("").await, "b");
    bench.drop_in("remembers", "remembers");
    assert_eq!(bench.rescan().await.activated.len(), 1);
    assert_eq!(claim.note_of_next("").await, "1");
    assert_eq!(claim.note_of_next("").await, "2");
}

#[tokio::test]
async fn an_edit_of_the_job_between_items_ends_the_reuse() {
    needs!(Plugins);
    let bench = bench(remembers()).await;
    let mut claim = bench.claim("remembers", 2);
    assert_eq!(claim.note_of_next("").await, "1");
    claim.job = Arc::new(limited(Limits { log_lines: 1, ..PATIENT }));
    assert_eq!(claim.note_of_next("").await, "1");
}

/// Each bad guest runs three items of one claim. Each of them ends as it would alone, and other jobs continue.
#[tokio::test]
async fn bad_guests_that_may_share_an_instance_are_contained() {
    needs!(Plugins);
    let limits = |code: &str| match code {
        "cpu-limit" => Limits { cpu_time: Duration::from_millis(100), ..PATIENT },
        "memory-limit" => Limits { memory_bytes: 8 * MIB, ..PATIENT },
        _ => PATIENT,
    };
    let guests = [
        ("loop-in-process", "cpu-limit"),
        ("memory-eater", "memory-limit"),
        ("panics", "guest-panic"),
        ("huge-result", "hostcall-limit"),
        ("log-flood", "cpu-limit"),
    ];
    let mut jobs: Vec<JobSpec> =
        guests.iter().map(|(guest, code)| JobSpec { limits: limits(code), ..job(guest) }).collect();
    jobs.push(job("noop"));
    let names: Vec<&str> = guests.iter().map(|(guest, _)| *guest).chain(["noop"]).collect();
    let bench = Bench::with_jobs(&names, jobs).await;
    for (guest, expected) in guests {
        let mut claim = bench.claim(guest, 3);
        for _ in 0..3 {
            assert_eq!(code(&claim.next("").await), expected, "{guest}");
            bench.still_works().await;
        }
    }
}

/// With a single slot in the pool, the kept instance has it until the claim's last item ends.
#[tokio::test]
async fn a_kept_instance_does_not_block_the_calls_of_others_for_ever() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    let config = SandboxConfig { attempts_max: 1, ..SandboxConfig::new(dir.path(), Clock::steady()) };
    let bench = Bench::of(dir, config, &["remembers", "noop"], vec![remembers(), job("noop")]).await;
    let mut claim = bench.claim("remembers", 2);
    assert_eq!(claim.note_of_next("").await, "1");
    let (second, ()) = tokio::join!(claim.next(""), bench.still_works());
    assert_eq!(note(second), "2");
    let mut claim = bench.claim("remembers", 2);
    assert_eq!(claim.note_of_next("").await, "1");
    // The second item ends without a start.
    drop(claim);
    bench.still_works().await;
}

/// The memory that idle slots of the pool keep is bounded, however much their guests used.
#[tokio::test]
async fn idle_slots_keep_a_bounded_amount_of_memory() {
    needs!(Plugins);
    const SLOTS: usize = 4;
    let bench = bench(remembers()).await;
    let mut claims: Vec<Claim> = (0..SLOTS).map(|_| bench.claim("remembers", 2)).collect();
    for claim in &mut claims {
        assert_eq!(claim.note_of_next("grow 16").await, "1");
    }
    drop(claims);
    let kept = bench.sandbox.pool_metrics().unwrap();
    // Two more slots at most: each version's `describe` was called.
    let slots = kept.unused_warm_memories() as usize;
    assert!((SLOTS..=SLOTS + 2).contains(&slots), "{slots}");
    let memory = kept.unused_memory_bytes_resident();
    assert!(memory <= slots * KEPT_MEMORY_BYTES, "{memory} in {slots} slots");
    assert!(kept.unused_table_bytes_resident() <= kept.unused_warm_tables() as usize * KEPT_TABLE_BYTES);
    assert!(kept.unused_stack_bytes_resident().is_some_and(|bytes| bytes <= slots * KEPT_STACK_BYTES));
}
