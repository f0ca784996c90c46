//! Measures one attempt of a no-op component in the sandbox: its parts, and the whole of `Runner::process`.
//! Alternates the kinds of measurement in blocks, so that other work on the machine affects all of them.
//! Prints one JSON line; started by `cargo xtask bench guest`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::clock::Clock;
use domain::effect::Effect;
use domain::flow::Flow;
use domain::id::{AttemptId, EventId, ItemId};
use domain::item::Claimed;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::plugin::Statement;
use domain::retry::RetryPolicy;
use domain::reuse::ClaimShare;
use domain::runner::{Call, Runner};
use domain::schedule::Schedule;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::{SignedDuration, Timestamp};
use sandbox::measuring::{Parts, kept_bytes, parts};
use sandbox::{Sandbox, SandboxConfig};

const ROUNDS_DEFAULT: usize = 200;
/// Attempts of one kind before those of the next kind.
const BLOCK: usize = 100;
/// Slots that are used at the same time to measure the memory that they keep.
const SLOTS: usize = 32;
/// Rounds that are not measured.
const WARM_UP_ROUNDS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(dir.path()).await;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds + WARM_UP_ROUNDS {
        if round == WARM_UP_ROUNDS {
            times.clear();
        }
        bench.round(&mut times).await;
    }
    let shown: Vec<String> = times.iter_mut().map(|(name, times)| percentiles(name, times)).collect();
    let kept = bench.kept_kib().await;
    println!(r#"{{"attempts":{},{},"kept_kib_per_slot":{kept:.0}}}"#, rounds * BLOCK, shown.join(","),);
}

struct Bench {
    sandbox: Arc<Sandbox>,
    job: Arc<JobSpec>,
    item: Claimed,
}

impl Bench {
    async fn start(dir: &Path) -> Bench {
        let built = std::env::var("TIDEMILL_TEST_PLUGINS").expect("run `cargo xtask bench guest`");
        std::fs::copy(format!("{built}/fixtures/noop.wasm"), dir.join("noop.wasm")).unwrap();
        let sandbox = Sandbox::new(SandboxConfig::new(dir, Clock::steady()), None).unwrap();
        let job = Arc::new(job());
        let report = sandbox.rescan(std::slice::from_ref(&job)).await;
        assert_eq!(report.activated.len(), 1, "{report:?}");
        let item = claimed(&job);
        Bench { sandbox, job, item }
    }

    async fn round(&self, times: &mut BTreeMap<&str, Vec<Duration>>) {
        for _ in 0..BLOCK {
            let Parts { store, instantiate, call, release } =
                parts(&self.sandbox, self.call()).await.expect("the component resolves");
            let bare = instantiate + call;
            for (name, time) in [
                ("store", store),
                ("instantiate", instantiate),
                ("call", call),
                ("release", release),
                ("instantiate_call", bare),
            ] {
                times.entry(name).or_default().push(time);
            }
        }
        for _ in 0..BLOCK {
            let fresh = self.process(None).await;
            times.entry("fresh").or_default().push(fresh);
        }
        // The first item of the claim makes the instance.
        for (n, share) in ClaimShare::of(BLOCK + 1).into_iter().enumerate() {
            let reused = self.process(Some(share)).await;
            if n > 0 {
                times.entry("reused").or_default().push(reused);
            }
        }
    }

    /// The memory that an idle slot keeps after an attempt of this component, in KiB.
    async fn kept_kib(&self) -> f64 {
        let mut claims: Vec<Vec<ClaimShare>> = (0..SLOTS).map(|_| ClaimShare::of(2)).collect();
        for claim in &mut claims {
            // The other item of the claim waits, so the instance stays in its slot.
            self.process(claim.pop()).await;
        }
        drop(claims);
        kept_bytes(&self.sandbox) as f64 / 1024.0 / SLOTS as f64
    }

    /// One attempt, from the item and its scope to the report.
    async fn process(&self, share: Option<ClaimShare>) -> Duration {
        let start = Instant::now();
        let report = self.sandbox.process(Call { share, ..self.call() }).await;
        let time = start.elapsed();
        assert!(report.result.is_ok(), "{report:?}");
        time
    }

    fn call(&self) -> Call<Claimed> {
        Call { job: self.job.clone(), input: self.item.clone(), scope: Arc::new(Nothing), share: None }
    }
}

/// `"name_us":{"p50":…,"p99":…}`
fn percentiles(name: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    format!(r#""{name}_us":{{"p50":{:.1},"p99":{:.1}}}"#, at(0.5), at(0.99))
}

fn job() -> JobSpec {
    JobSpec {
        name: "noop".parse().unwrap(),
        plugin: "noop".parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants::default(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        flow: Flow::default(),
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

fn claimed(job: &JobSpec) -> Claimed {
    let now = Timestamp::now();
    Claimed {
        id: ItemId::new(now),
        job: job.name.clone(),
        key: "n-1".to_owned(),
        payload: String::new(),
        attempts: 0,
        deferrals: 0,
        series: 1,
        epoch: 1,
        attempt_id: AttemptId::new(now),
        run_id: None,
        found_by: None,
        in_batch: None,
        first_attempt_at: None,
        last_attempt_at: None,
        last_error: None,
        claimed_at: now,
    }
}

/// Accepts every call and stores nothing.
struct Nothing;

#[async_trait]
impl Scope for Nothing {
    fn held(&self) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_get(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        Ok(None)
    }

    async fn kv_set(&self, _: &str, _: &str, _: Option<Vec<u8>>) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_set_for(&self, _: &str, _: &str, _: Vec<u8>, _: SignedDuration) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_compare_and_set(&self, _: &str, _: &str, _: Swap) -> Result<bool, ScopeError> {
        Ok(true)
    }

    async fn kv_keys(&self, _: &str, _: u64) -> Result<Keys, ScopeError> {
        Ok(Keys::default())
    }

    async fn sql_query(&self, _: &Statement, _: Vec<Value>) -> Result<Rows, ScopeError> {
        Ok(Rows::default())
    }

    async fn sql_execute(&self, _: &Statement, _: Vec<Value>) -> Result<u64, ScopeError> {
        Ok(0)
    }

    async fn lock(&self, _: &str) -> Result<Option<u64>, ScopeError> {
        Ok(None)
    }

    async fn add(&self, _: Effect) -> Result<Option<EventId>, ScopeError> {
        Ok(None)
    }
}
