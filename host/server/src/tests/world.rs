//! A host without a socket, with an SQLite store in a temporary folder and a manual clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use domain::clock::Clock;
use domain::failure::{ErrorInfo, Failure};
use domain::flow::Flow;
use domain::id::{Digest, HostId, Incarnation, JobName};
use domain::item::Claimed;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::outcome::{self, Outcome};
use domain::release::ReleaseRules;
use domain::retry::RetryPolicy;
use domain::runner::{Call, CallReport, FoundItem, Page, PageRequest, Readiness, Runner, Usage};
use domain::schedule::Schedule;
use engine::{Engine, EngineConfig, Identity};
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use sandbox::{Sandbox, SandboxConfig};
use store::attempts::commit::{AttemptEnd, Effects};
use store::hosts::HostLocation;
use store::items::lease;
use store::{Store, StoreConfig};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app::router::router;
use crate::config::reload::Live;
use crate::config::{Environment, Source};
use crate::plugins::SharedVersions;
use crate::state::AppState;

const BODY_BYTES_MAX: usize = 8 << 20;

pub struct World {
    pub state: AppState,
    job: Arc<JobSpec>,
    host: HostId,
    ready: Arc<AtomicBool>,
    _folder: TempDir,
}

/// Its plugin is ready only while a test enables it. Otherwise the engine would work on the tests' items.
struct Plugin(Arc<AtomicBool>);

#[async_trait]
impl Runner for Plugin {
    fn readiness(&self, _: &JobSpec) -> Readiness {
        match self.0.load(Ordering::SeqCst) {
            true => Readiness::Ready(Digest([7; 32])),
            false => Readiness::Blocked("there is no plugin \"wallet-keygen\"".to_owned()),
        }
    }

    async fn discover(&self, _: Call<PageRequest>) -> CallReport<Page> {
        CallReport { result: Ok(Page::default()), digest: None, usage: Usage::default(), log: String::new() }
    }

    async fn process(&self, _: Call<Claimed>) -> CallReport<Outcome> {
        let result = Err(Failure::Interrupted);
        CallReport { result, digest: None, usage: Usage::default(), log: String::new() }
    }
}

/// One for all tests, because each sandbox reserves memory for guests.
fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let new = || {
        let config = SandboxConfig::new("no/such/folder", Clock::steady());
        Sandbox::new(config, None).unwrap()
    };
    SANDBOX.get_or_init(new).clone()
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

pub struct Open(BodyDataStream);

impl Open {
    pub async fn next(&mut self) -> Option<String> {
        let bytes = self.0.next().await?.unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }
}

pub fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::empty())
}

/// A request with a JSON body, or with no body if it is empty.
pub fn post(path: &str, body: &str) -> Request<Body> {
    let mut request = request(Method::POST, path, Body::from(body.to_owned()));
    if !body.is_empty() {
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    }
    request
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "127.0.0.1:7070").body(body).unwrap()
}

fn now() -> Timestamp {
    "2026-11-20T12:00:30Z".parse().unwrap()
}

fn job(limits: Limits) -> JobSpec {
    JobSpec {
        name: "wallet".parse().unwrap(),
        plugin: "wallet-keygen".parse().unwrap(),
        schedule: Schedule::cron("* * * * *", "Europe/Berlin", Default::default(), now()).unwrap(),
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants::default(),
        limits,
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT },
        flow: Flow { items_per_run_max: Some(10), ..Flow::default() },
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

impl World {
    pub async fn new() -> World {
        World::of(Limits::DEFAULT).await
    }

    /// A world whose job has these limits.
    pub async fn of(limits: Limits) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(now());
        let url = format!("sqlite://{}/tidemill.db", folder.path().display());
        let config = StoreConfig { url, password: None, notify: true, datasources: BTreeMap::new() };
        let store = Arc::new(Store::open(&config).await.unwrap());
        let (job, host) = (Arc::new(job(limits)), HostId::new(now()));
        let ready = Arc::new(AtomicBool::new(false));
        let runner = Arc::new(Plugin(ready.clone()));
        let config = EngineConfig::new("box");
        let identity = Identity { id: host, place: HostLocation::WholeStore };
        let engine =
            Engine::start(config, identity, store.clone(), runner, clock.clone(), vec![job.clone()]).await;
        let file = folder.path().join("tidemill.toml");
        std::fs::write(&file, format!("[jobs.{}]\nplugin = \"wallet-keygen\"\n", job.name)).unwrap();
        let source = Source { file, environment: Environment::default() };
        let versions = Arc::new(SharedVersions {
            store: store.clone(),
            rules: ReleaseRules::default(),
            shared: false,
            host,
            clock: clock.clone(),
        });
        let state = AppState {
            config: Arc::new(Live::of(source)),
            engine: Arc::new(engine.unwrap()),
            sandbox: sandbox(),
            versions,
            store,
            clock,
            uploads: Arc::new(Semaphore::new(1)),
            listen: "127.0.0.1:7070".parse().unwrap(),
            stopping: CancellationToken::new(),
        };
        World { state, job, host, ready, _folder: folder }
    }

    pub fn job(&self) -> &JobName {
        &self.job.name
    }

    pub fn host(&self) -> HostId {
        self.host
    }

    pub fn plugin_is_there(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }

    /// Moves the clock by less than any delay.
    pub fn a_moment_later(&self) {
        if let Clock::Manual(manual) = &self.state.clock {
            manual.advance(SignedDuration::from_millis(100));
        }
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, BODY_BYTES_MAX).await.unwrap();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Returns the response's open body.
    pub async fn open(&self, request: Request<Body>) -> Open {
        Open(router(self.state.clone()).oneshot(request).await.unwrap().into_body().into_data_stream())
    }

    /// The response's JSON, pretty-printed, with ids masked.
    pub async fn json(&self, request: Request<Body>) -> String {
        let answer = self.ask(request).await;
        let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        self.mask(&serde_json::to_string_pretty(&value).unwrap())
    }

    /// Masks ids, which are new in each run of a test.
    pub fn mask(&self, text: &str) -> String {
        const ID: usize = 36;
        let is_id = |at: usize| {
            let part = text.get(at..at + ID)?;
            let hex = |(i, c): (usize, char)| match i {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            };
            part.chars().enumerate().all(hex).then_some(())
        };
        let (mut masked, mut at) = (String::new(), 0);
        while let Some(c) = text[at..].chars().next() {
            if is_id(at).is_some() {
                masked.push_str("<id>");
                at += ID;
            } else {
                masked.push(c);
                at += c.len_utf8();
            }
        }
        masked
    }

    /// Starts a run that finds these keys.
    pub async fn discover(&self, keys: &[&str]) {
        let store = &self.state.store;
        store.jobs().trigger(&self.job.name, None, "test", self.now()).await.unwrap();
        let run = store.runs().claim(&self.job.name, self.lease()).await.unwrap().unwrap();
        let found = |key: &&str| FoundItem { key: (*key).to_owned(), payload: "{}".to_owned() };
        let page = Page { items: keys.iter().map(found).collect(), next: None };
        store.runs().put_page(&run, &self.job, &page, None, self.now()).await.unwrap();
    }

    /// Runs one attempt of the next due item, which fails.
    pub async fn fail_one(&self, error: ErrorInfo) {
        self.end_one(Err(Failure::Transient(error)), Effects::default()).await;
    }

    /// Runs one attempt of the next due item, which resolves it with these effects.
    pub async fn resolve_one(&self, effects: Effects) {
        self.end_one(Ok(Outcome::Resolved { note: None }), effects).await;
    }

    async fn end_one(&self, result: Result<Outcome, Failure>, effects: Effects) {
        let store = &self.state.store;
        let item = store.items().claim(&self.job, self.lease(), 1).await.unwrap().remove(0);
        let end = AttemptEnd {
            ending: outcome::decide(&result, &item, &self.job.retry, self.now()),
            item,
            effects,
            host: self.host,
            failed_alert: Default::default(),
            digest: Some(Digest([7; 32])),
            usage: Usage { wall_us: 1_500, memory_bytes_max: 1 << 20, ..Usage::default() },
            log: "a line".to_owned(),
            ended_at: self.now(),
        };
        store.attempts().end(end.into()).await.unwrap();
    }

    fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    fn lease(&self) -> store::items::Lease {
        lease(self.host, Incarnation::new(self.now()), self.now(), SignedDuration::from_secs(30))
    }
}
