//! One case per bad guest, swaps under load, and capabilities without guests.

mod bad_guests;
mod capabilities;
mod compile;
mod compilers;
mod folder;
mod handwritten;
mod http;
mod http_headers;
mod instructions;
mod jobs;
mod pins;
mod residue;
mod reuse;
mod signatures;
mod swap;
mod text;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::clock::Clock;
use domain::effect::Effect;
use domain::failure::Failure;
use domain::flow::Flow;
use domain::id::{AttemptId, Digest, EventId, ItemId, RunId};
use domain::item::Claimed;
use domain::job::{Access, Capability, Grants, JobSpec};
use domain::limits::Limits;
use domain::outcome::Outcome;
use domain::plugin::Statement;
use domain::retry::RetryPolicy;
use domain::runner::{Call, CallReport, Page, PageRequest, Readiness, Runner};
use domain::schedule::Schedule;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::config::SandboxConfig;
use crate::guest::http::Clients;
use crate::guest::state::SharedResources;
use crate::sandbox::Sandbox;

/// A plugins folder with copies of real guests, and a sandbox on it.
struct Bench {
    dir: TempDir,
    sandbox: Arc<Sandbox>,
    scope: Arc<FakeScope>,
    jobs: Vec<Arc<JobSpec>>,
}

impl Bench {
    async fn with(guests: &[&str]) -> Bench {
        Bench::with_jobs(guests, guests.iter().map(|guest| job(guest)).collect()).await
    }

    async fn with_jobs(guests: &[&str], jobs: Vec<JobSpec>) -> Bench {
        Bench::trusting(&[], guests, jobs).await
    }

    async fn trusting(
        certificates: &[CertificateDer<'static>],
        guests: &[&str],
        jobs: Vec<JobSpec>,
    ) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SandboxConfig::new(dir.path(), Clock::steady());
        config.certificates = certificates.to_vec();
        Bench::of(dir, config, guests, jobs).await
    }

    async fn of(dir: TempDir, config: SandboxConfig, guests: &[&str], jobs: Vec<JobSpec>) -> Bench {
        let sandbox = Sandbox::new(config, None).unwrap();
        let jobs = jobs.into_iter().map(Arc::new).collect();
        let bench = Bench { dir, sandbox, scope: Arc::default(), jobs };
        for guest in guests {
            bench.drop_in(guest, guest);
        }
        bench.rescan().await;
        bench
    }

    fn path(&self, plugin: &str) -> PathBuf {
        self.dir.path().join(format!("{plugin}.wasm"))
    }

    /// Copies a guest into the folder, replacing the plugin's file.
    fn drop_in(&self, guest: &str, plugin: &str) {
        fs::copy(guest_path(guest), self.path(plugin)).unwrap();
    }

    async fn rescan(&self) -> crate::ScanReport {
        self.sandbox.rescan(&self.jobs).await
    }

    fn job(&self, plugin: &str) -> Arc<JobSpec> {
        self.jobs.iter().find(|job| job.plugin.as_str() == plugin).unwrap().clone()
    }

    fn digest(&self, plugin: &str) -> Option<Digest> {
        match self.sandbox.readiness(&job(plugin)) {
            Readiness::Ready(digest) => Some(digest),
            Readiness::Blocked(_) => None,
        }
    }

    async fn process(&self, plugin: &str, payload: &str) -> CallReport<Outcome> {
        self.process_as(self.job(plugin), payload).await
    }

    async fn process_as(&self, job: Arc<JobSpec>, payload: &str) -> CallReport<Outcome> {
        let input = claimed(&job, payload);
        self.sandbox.process(Call { job, input, scope: self.scope.clone(), share: None }).await
    }

    async fn discover(&self, plugin: &str, cursor: Option<&str>, limit: u32) -> CallReport<Page> {
        let now = Timestamp::now();
        let input = PageRequest {
            run_id: RunId::new(now),
            trigger: "test".to_owned(),
            scheduled_at: None,
            params: None,
            cursor: cursor.map(str::to_owned),
            limit,
            now,
        };
        let call = Call { job: self.job(plugin), input, scope: self.scope.clone(), share: None };
        self.sandbox.discover(call).await
    }

    /// The final check of every bad guest's test.
    async fn still_works(&self) {
        let report = self.process("noop", "").await;
        assert_eq!(report.result, Ok(Outcome::Resolved { note: None }), "log: {}", report.log);
    }
}

fn guests_dir() -> PathBuf {
    match std::env::var_os("TIDEMILL_TEST_PLUGINS") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"),
    }
}

fn guest_path(guest: &str) -> PathBuf {
    let file = format!("{guest}.wasm");
    let paths = [guests_dir().join("fixtures").join(&file), guests_dir().join(&file)];
    match paths.iter().find(|path| path.exists()) {
        Some(path) => path.clone(),
        None => panic!("{} is missing; build them with `cargo xtask plugins`", paths[0].display()),
    }
}

fn outside() -> SharedResources {
    SharedResources { clock: Clock::steady(), clients: Arc::new(Clients::new(&[]).unwrap()) }
}

fn job(plugin: &str) -> JobSpec {
    JobSpec {
        name: plugin.parse().unwrap(),
        plugin: plugin.parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants::default(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        flow: Flow { concurrency: 1, ..Flow::default() },
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

/// A job of the guest `witness`, with all the grants it requests.
fn witness() -> JobSpec {
    let mut witness = job("witness");
    witness.grants.datasources.insert("witness".to_owned(), Access::ReadWrite);
    witness.grants.topics.insert("witness".to_owned());
    witness.grants.capabilities.insert(Capability::KeyValue);
    witness
}

fn claimed(job: &JobSpec, payload: &str) -> Claimed {
    let now = Timestamp::now();
    Claimed {
        id: ItemId::new(now),
        job: job.name.clone(),
        key: "item-1".to_owned(),
        payload: payload.to_owned(),
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

fn code<T: std::fmt::Debug>(report: &CallReport<T>) -> &str {
    match &report.result {
        Err(Failure::Transient(error)) => &error.code,
        other => panic!("expected a transient failure, got {other:?}"),
    }
}

fn message<T>(report: &CallReport<T>) -> &str {
    let error = report.result.as_ref().err().and_then(Failure::error);
    error.map_or("", |error| &error.message)
}

/// Records its calls. A statement can be made to wait, or to panic.
#[derive(Default)]
struct FakeScope {
    calls: Mutex<Vec<String>>,
    effects: Mutex<Vec<Effect>>,
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    /// If set, a statement signals its arrival and waits for permission to continue.
    gate: Mutex<Option<Arc<Gate>>>,
    panics: bool,
    /// The host's store does not answer.
    away: bool,
}

#[derive(Default)]
struct Gate {
    arrived: tokio::sync::Notify,
    open: tokio::sync::Notify,
}

impl FakeScope {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl Scope for FakeScope {
    fn held(&self) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        self.note(format!("get {bucket}/{key}"));
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError> {
        self.note(format!("set {bucket}/{key}"));
        let mut values = self.values.lock().unwrap();
        match value {
            Some(value) => values.insert(key.to_owned(), value),
            None => values.remove(key),
        };
        Ok(())
    }

    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError> {
        self.note(format!("for {ttl:#}"));
        self.kv_set(bucket, key, Some(value)).await
    }

    async fn kv_compare_and_set(&self, bucket: &str, key: &str, swap: Swap) -> Result<bool, ScopeError> {
        let so = self.kv_get(bucket, key).await? == swap.expected;
        if so {
            self.kv_set(bucket, key, swap.value).await?;
        }
        Ok(so)
    }

    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError> {
        self.note(format!("lock {name}"));
        Ok(Some(7))
    }

    async fn kv_keys(&self, _bucket: &str, from: u64) -> Result<Keys, ScopeError> {
        let keys = self.values.lock().unwrap().keys().cloned().collect::<Vec<_>>();
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(keys.len());
        Ok(Keys { keys: keys[from..].to_vec(), next: None })
    }

    async fn sql_query(&self, statement: &Statement, _: Vec<Value>) -> Result<Rows, ScopeError> {
        self.note(format!("query {}", statement.datasource));
        Ok(Rows { columns: vec!["n".to_owned()], rows: vec![vec![Value::Integer(1)]] })
    }

    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError> {
        assert!(!self.panics, "a seeded panic in the host");
        if self.away {
            return Err(ScopeError::Store("no answer".to_owned()));
        }
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.arrived.notify_one();
            gate.open.notified().await;
        }
        self.note(format!("execute {} {}", statement.datasource, params.len()));
        Ok(1)
    }

    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError> {
        self.note("add".to_owned());
        let is_event = matches!(effect, Effect::Event(_));
        self.effects.lock().unwrap().push(effect);
        Ok(is_event.then(|| EventId::new(Timestamp::UNIX_EPOCH)))
    }
}
