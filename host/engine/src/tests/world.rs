//! Databases, clock and hosts of one test. Each host has its own runtime, so that it can be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::clock::{Clock, Manual};
use domain::flow::Flow;
use domain::id::{HostId, JobName, RunId};
use domain::item::State;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::retry::RetryPolicy;
use domain::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use store::feed::Published;
use store::hosts::HostLocation;
use store::items::ItemView;
use store::runs::RunView;
use store::{Store, StoreConfig, StoreError};
use test_support::{Database, Fixture, Kind};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::error::RecvError;

use super::fake::{Fake, Script, Seen, TOPIC};
use crate::{Engine, EngineConfig, Identity};
use domain::engine_event::EngineEvent;

/// Maximum wait for any condition, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Leases outlast every test that is not about them.
const LEASE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// No test may depend on polling: a lost wake-up makes the test fail.
const POLL: Duration = Duration::from_secs(600);

pub struct World {
    pub database: Database,
    /// Whether its hosts notify each other.
    pub notify: bool,
    pub clock: Manual,
    pub script: Arc<Script>,
    pub seen: Arc<Seen>,
}

impl Fixture for World {
    async fn run<F: Future<Output = ()>>(kind: Kind, case: fn(World) -> F) {
        case(World::on(kind).await).await;
    }
}

impl World {
    pub async fn on(kind: Kind) -> World {
        let database = Database::fresh(kind).await;
        let Clock::Manual(clock) = Clock::manual(at("12:00:30")) else { panic!("a manual clock") };
        let script = Arc::new(Script::default());
        let seen = script.seen.clone();
        World { database, notify: true, clock, script, seen }
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    pub async fn host(&self, name: &'static str, jobs: &[JobSpec]) -> Host {
        self.host_with(name, jobs, |config| config).await
    }

    /// A host with the same `name` has the same id each time.
    pub async fn host_with(
        &self,
        name: &'static str,
        jobs: &[JobSpec],
        change: impl FnOnce(EngineConfig) -> EngineConfig,
    ) -> Host {
        self.host_at("here", name, jobs, change).await.unwrap()
    }

    /// A host whose data folder is in `place`.
    pub async fn host_at(
        &self,
        place: &'static str,
        name: &'static str,
        jobs: &[JobSpec],
        change: impl FnOnce(EngineConfig) -> EngineConfig,
    ) -> Result<Host, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let config = EngineConfig { lease_ttl: LEASE, poll_period: POLL, ..EngineConfig::new(name) };
        let config = change(config);
        let url = StoreConfig {
            url: self.database.url.clone(),
            password: None,
            notify: self.notify,
            datasources: BTreeMap::new(),
        };
        let runner = Arc::new(Fake { host: name, script: self.script.clone() });
        let clock = Clock::Manual(self.clock.clone());
        let jobs = jobs.iter().cloned().map(Arc::new).collect();
        let started = runtime.spawn(async move {
            let store = Arc::new(Store::open(&url).await.unwrap());
            let identity = Identity { id: host_id(name), place: HostLocation::Folder(place.to_owned()) };
            let engine = Engine::start(config, identity, store.clone(), runner, clock, jobs).await?;
            Ok((store, Arc::new(engine)))
        });
        let started: Result<_, StoreError> = started.await.unwrap();
        // A runtime must not be dropped inside another one.
        let (store, engine) = match started {
            Ok(started) => started,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (mut feed, seen) = (engine.feed(), self.seen.clone());
        runtime.spawn(async move {
            loop {
                match feed.recv().await {
                    // The other host's own feed has it, too.
                    Ok(Published { remote: true, .. }) => {}
                    Ok(Published { event, .. }) => seen.note(line(name, &event)),
                    Err(RecvError::Lagged(n)) => seen.note(format!("{name}: {n} engine events were missed")),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(Host { runtime: Some(runtime), store, engine })
    }

    /// Calls `look` after each engine event until it returns a value.
    pub async fn until<T, F>(&self, what: &str, mut look: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let watch = async {
            loop {
                let more = self.seen.more.notified();
                if let Some(found) = look().await {
                    return found;
                }
                more.await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, watch).await else {
            panic!("waited {PATIENCE:?} for {what}; seen:\n{}", self.seen.lines().join("\n"));
        };
        found
    }

    pub async fn until_seen(&self, line: &str) {
        self.until(line, || async { self.seen.has(line).then_some(()) }).await;
    }

    /// Waits until `count` lines have this prefix.
    pub async fn until_count(&self, start: &str, count: usize) {
        let what = format!("{count} times {start:?}");
        self.until(&what, || async { (self.seen.count(start) >= count).then_some(()) }).await;
    }

    pub async fn until_state(&self, host: &Host, key: &str, state: State) -> ItemView {
        let what = format!("{key} to be {state}");
        let look = || async { host.item(key).await.filter(|item| item.state == state) };
        self.until(&what, look).await
    }

    pub async fn until_run(&self, host: &Host, run: RunId, state: &str) -> RunView {
        let look = || async { host.store.runs().get(run).await.unwrap().filter(|run| run.state == state) };
        self.until(&format!("run {run} to be {state}"), look).await
    }

    /// Lets time pass, with all leases renewed, until `line` was recorded.
    pub async fn until_passed(&self, host: &Host, line: &str) {
        let passed = async {
            while !self.seen.has(line) {
                self.advance(5);
                self.until_renewed(host).await;
            }
        };
        if tokio::time::timeout(PATIENCE, passed).await.is_err() {
            panic!("{line} was not seen within {PATIENCE:?}; seen:\n{}", self.seen.lines().join("\n"));
        }
    }

    /// Waits until the host's leases were renewed at the present time of the clock. There is no notification
    /// for it, so the store is polled.
    pub async fn until_renewed(&self, host: &Host) {
        self.until_renewed_lately(host, SignedDuration::ZERO).await;
    }

    /// Waits until the host's last renewal is no older than `ago`.
    pub async fn until_renewed_lately(&self, host: &Host, ago: SignedDuration) {
        let since = self.clock.now() - ago;
        let renewed = async {
            while host.store.hosts().list(1).await.unwrap().iter().all(|view| view.heartbeat_at < since) {}
        };
        tokio::time::timeout(PATIENCE, renewed).await.expect("the leases are renewed");
    }
}

pub struct Host {
    runtime: Option<Runtime>,
    pub store: Arc<Store>,
    pub engine: Arc<Engine>,
}

impl Host {
    /// Ends the host at once, as with `kill -9`: it sends nothing more to the store. The host has ended when
    /// this returns, because a killed process cannot notice that another one has started.
    pub fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On another thread, because this one may not block.
            let end = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE));
            end.join().unwrap();
        }
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub async fn stop(&self) {
        self.engine.stop().await;
    }

    pub async fn trigger(&self) -> RunId {
        self.engine.trigger(&job_name(), None, "test").await.unwrap()
    }

    pub async fn item(&self, key: &str) -> Option<ItemView> {
        self.store.items().get("job", key).await.unwrap()
    }

    /// The results of the attempts of `key`, oldest first: number, verdict and start.
    pub async fn attempts(&self, key: &str) -> String {
        let mut attempts = self.store.items().attempts("job", key, 100).await.unwrap();
        attempts.reverse();
        let line = |attempt: &store::items::AttemptView| {
            let code = attempt.error.as_ref().map(|error| format!(" {}", error.code)).unwrap_or_default();
            let began = attempt.started_at.to_string();
            format!("#{} {}{code} {}\n", attempt.number, attempt.verdict, &began[11..])
        };
        attempts.iter().map(line).collect()
    }

    /// Ticks of the job, oldest first.
    pub async fn ticks(&self) -> String {
        let mut ticks = self.store.jobs().ticks("job", 1_000).await.unwrap();
        ticks.reverse();
        let line = |tick: &store::jobs::TickView| format!("{} {}\n", &tick.at.to_string()[11..], tick.fate);
        ticks.iter().map(line).collect()
    }

    /// Keys of the committed events, in order of the keys.
    pub async fn events(&self) -> Vec<String> {
        let events = self.store.outbox().pending(Some(TOPIC), 10_000).await.unwrap();
        let mut keys: Vec<String> = events.into_iter().map(|event| event.key).collect();
        keys.sort();
        keys
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// A time on the day of the tests.
pub fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}Z").parse().unwrap()
}

fn host_id(name: &str) -> HostId {
    let bytes: u128 = name.bytes().fold(0, |all, byte| (all << 8) | u128::from(byte));
    HostId(uuid::Uuid::from_u128(bytes))
}

pub fn job_name() -> JobName {
    "job".parse().unwrap()
}

/// A manual job. The backoff doubles from one minute up to an hour; attempts are not limited.
pub fn job() -> JobSpec {
    let retry = RetryPolicy {
        base: SignedDuration::from_mins(1),
        cap: SignedDuration::from_mins(60),
        jitter: 0.0,
        max_attempts: None,
        ..RetryPolicy::DEFAULT
    };
    JobSpec {
        name: job_name(),
        plugin: "plugin".parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants { topics: BTreeSet::from([TOPIC.to_owned()]), ..Grants::default() },
        limits: Limits::DEFAULT,
        retry,
        flow: Flow::default(),
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

pub fn each_minute() -> JobSpec {
    JobSpec { schedule: Schedule::every(SignedDuration::from_mins(1)).unwrap(), ..job() }
}

fn line(host: &str, engine_event: &EngineEvent) -> String {
    let kind = engine_event.kind();
    match engine_event {
        EngineEvent::Ticked { fate, .. } => format!("{host} {kind} {}", fate.as_str()),
        EngineEvent::AttemptEnded { key, verdict, .. } => format!("{host} {kind} {key} {}", verdict.as_str()),
        EngineEvent::AttemptStale { key, .. } | EngineEvent::Recovered { key, .. } => {
            format!("{host} {kind} {key}")
        }
        EngineEvent::DiscoveryFailed { code, .. } => format!("{host} {kind} {code}"),
        _ => format!("{host} {kind}"),
    }
}
