//! Measures items per second through the whole engine: each item is claimed, attempted and committed durably
//! on its own.
//! Compares a no-op component, a no-op inside the host, and the store alone, on both databases, in one process
//! and one run. Prints one JSON line per measurement; started by `cargo xtask bench engine`, `bench peers` and
//! `bench sqlite`, which select measurements with `ONLY=postgres/native,sqlite/store`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod raw;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use domain::clock::Clock;
use domain::flow::{Flow, PerPrefix, Rate};
use domain::id::{Digest, HostId};
use domain::item::Claimed;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::outcome::Outcome;
use domain::retry::RetryPolicy;
use domain::runner::{Call, CallReport, FoundItem, Page, PageRequest, Readiness, Runner, Usage};
use domain::schedule::Schedule;
use engine::{Engine, EngineConfig, Identity};
use jiff::Timestamp;
use sandbox::{Sandbox, SandboxConfig};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::{Store, StoreConfig};

const ITEMS_DEFAULT: u64 = 20_000;
const CONCURRENCY: u32 = 1_024;
/// `store` is the loop of `raw`, without engine and runner.
const RUNNERS: [&str; 4] = ["component", "native", "native-limited", "store"];

/// Does the same as the no-op component, without leaving the host.
struct Native(u64);

#[async_trait]
impl Runner for Native {
    fn readiness(&self, _job: &JobSpec) -> Readiness {
        Readiness::Ready(Digest([0; 32]))
    }

    async fn discover(&self, call: Call<PageRequest>) -> CallReport<Page> {
        let done: u64 = call.input.cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let last = self.0.min(done + u64::from(call.input.limit));
        let found = |n| FoundItem { key: format!("{}:{n}", n % 100), payload: String::new() };
        let items = (done + 1..=last).map(found).collect();
        report(Page { items, next: (last < self.0).then(|| last.to_string()) })
    }

    async fn process(&self, _call: Call<Claimed>) -> CallReport<Outcome> {
        report(Outcome::Resolved { note: None })
    }
}

fn report<T>(answer: T) -> CallReport<T> {
    CallReport { result: Ok(answer), digest: None, usage: Usage::default(), log: String::new() }
}

fn job(items: u64, flow: Flow) -> Arc<JobSpec> {
    Arc::new(JobSpec {
        name: "noop".parse().unwrap(),
        plugin: "noop".parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::from([("count".to_owned(), items.to_string())]),
        grants: Grants::default(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        flow,
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    })
}

#[tokio::main]
async fn main() {
    let items = std::env::var("ITEMS").ok().and_then(|n| n.parse().ok()).unwrap_or(ITEMS_DEFAULT);
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    for db in ["sqlite", "postgres"] {
        for runner in RUNNERS {
            if only.is_empty() || only.contains(&format!("{db}/{runner}").as_str()) {
                let items_per_s = measure(db, runner, items).await;
                println!(
                    r#"{{"db":"{db}","runner":"{runner}","items":{items},"items_per_s":{items_per_s:.0}}}"#
                );
            }
        }
    }
}

fn free() -> Flow {
    Flow { concurrency: CONCURRENCY, ..Flow::default() }
}

/// Sets every limit that applies across hosts, each too high to delay anything.
fn limited() -> Flow {
    let per_prefix = Some(PerPrefix { concurrency: CONCURRENCY, separator: ":".to_owned() });
    let rate = Some(Rate { attempts_max: u32::MAX, window: jiff::SignedDuration::from_mins(1) });
    Flow { concurrency_total: Some(CONCURRENCY), per_prefix, rate, ..free() }
}

/// An engine with concurrency 0 discovers the items first; then a second engine, or the loop, drains them.
async fn measure(db: &str, name: &str, items: u64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let url = match db {
        "sqlite" => format!("sqlite://{}", dir.path().join("store.db").display()),
        _ => fresh_postgres().await,
    };
    let flow = if name == "native-limited" { limited() } else { free() };
    let runner: Arc<dyn Runner> = match name {
        "component" => component(dir.path().join("plugins"), items).await,
        _ => Arc::new(Native(items)),
    };
    let host = HostId::new(Timestamp::now());
    let config = StoreConfig { url, password: None, notify: true, datasources: BTreeMap::new() };

    let (engine, store) =
        start(&config, host, runner.clone(), job(items, Flow { concurrency: 0, ..free() })).await;
    engine.trigger(&"noop".parse().unwrap(), None, "bench").await.unwrap();
    until(&engine, &store, "running").await;
    engine.stop().await;
    store.close().await;

    let began = Instant::now();
    if name == "store" {
        let store = Arc::new(Store::open(&config).await.unwrap());
        let drained = raw::drain(&store, &job(items, flow), host).await;
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(drained, items, "the loop drained all items");
        store.close().await;
        return items as f64 / seconds;
    }
    let (engine, store) = start(&config, host, runner, job(items, flow)).await;
    until(&engine, &store, "finished").await;
    let seconds = began.elapsed().as_secs_f64();
    engine.stop().await;
    store.close().await;
    items as f64 / seconds
}

async fn start(
    config: &StoreConfig,
    host: HostId,
    runner: Arc<dyn Runner>,
    job: Arc<JobSpec>,
) -> (Engine, Arc<Store>) {
    let store = Arc::new(Store::open(config).await.unwrap());
    // Enough for all its slots, as on a machine with 32 GiB.
    let settings = EngineConfig { memory_bytes: 16 << 30, ..EngineConfig::new("bench") };
    let identity = Identity { id: host, place: store::hosts::HostLocation::WholeStore };
    let engine =
        Engine::start(settings, identity, store.clone(), runner, Clock::steady(), vec![job]).await.unwrap();
    (engine, store)
}

/// Waits until the newest run reaches this state, and checks after every engine event.
async fn until(engine: &Engine, store: &Store, state: &str) {
    let mut feed = engine.feed();
    while store.runs().list(Some("noop"), 1).await.unwrap()[0].state != state {
        for _ in 0..100 {
            let next = tokio::time::timeout(std::time::Duration::from_millis(10), feed.recv());
            if next.await.is_err() {
                break;
            }
        }
    }
}

async fn component(plugins: PathBuf, items: u64) -> Arc<dyn Runner> {
    std::fs::create_dir_all(&plugins).unwrap();
    let built = std::env::var("TIDEMILL_TEST_PLUGINS").expect("run `cargo xtask bench engine`");
    std::fs::copy(format!("{built}/fixtures/noop.wasm"), plugins.join("noop.wasm")).unwrap();
    let sandbox = Sandbox::new(SandboxConfig::new(plugins, Clock::steady()), None).unwrap();
    let report = sandbox.rescan(&[job(items, free())]).await;
    assert_eq!(report.activated.len(), 1, "{report:?}");
    eprintln!("allocator: {}", sandbox.allocator());
    sandbox
}

async fn fresh_postgres() -> String {
    let base = std::env::var("TIDEMILL_TEST_POSTGRES").expect("run `cargo xtask bench engine`");
    let name = format!("bench_{}", HostId::new(Timestamp::now()).0.simple());
    let mut admin = PgConnection::connect(&base).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}
