//! A whole host in this process, on a clock that only the test moves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::clock::{Clock, Manual};
use domain::flow::Flow;
use domain::item::State;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::retry::RetryPolicy;
use domain::schedule::Schedule;
use engine::EngineConfig;
use jiff::{SignedDuration, Timestamp};
use sandbox::{Bounds, Child, Compiler};
use server::app::App;
use server::config::{Config, Environment, PluginsConfig, Source};
use server::telemetry::LogConfig;
use store::StoreConfig;
use store::config::DatasourceConfig;
use store::feed::Published;
use store::items::ItemView;
use tokio::sync::broadcast::Receiver;

use super::database::Databases;
use super::process::binary;

/// Longest wait for something that must happen; hitting it fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The start of virtual time, on a full minute.
pub fn start_of_time() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().unwrap()
}

pub fn manual() -> Manual {
    let Clock::Manual(manual) = Clock::manual(start_of_time()) else { unreachable!() };
    manual
}

pub struct Host {
    pub app: App,
    pub clock: Manual,
    pub plugins: PathBuf,
    feed: Receiver<Published>,
}

impl Host {
    /// Starts a host named `name`; hosts of one test share its databases, clock and plugins folder.
    pub async fn start(name: &str, databases: &Databases, clock: &Manual, jobs: Vec<JobSpec>) -> Host {
        Host::try_start(name, databases, clock, jobs).await.unwrap()
    }

    pub async fn try_start(
        name: &str,
        databases: &Databases,
        clock: &Manual,
        jobs: Vec<JobSpec>,
    ) -> anyhow::Result<Host> {
        let config = config(name, databases, &databases.dir.path().join("plugins"), jobs);
        Host::with(config, databases, clock).await
    }

    /// Starts a host whose compiler has other bounds.
    pub async fn start_bounded(databases: &Databases, jobs: Vec<JobSpec>, bounds: Bounds) -> Host {
        let mut config = config("one", databases, &databases.dir.path().join("plugins"), jobs);
        config.compiler = Compiler::Child(Child { bounds, ..Child::of(binary()) });
        Host::with(config, databases, &manual()).await.unwrap()
    }

    async fn with(config: Config, databases: &Databases, clock: &Manual) -> anyhow::Result<Host> {
        let (name, plugins) = (config.host_name.clone(), config.plugins.dir.clone());
        // Virtual time advances further than any reasonable lease lasts.
        let engine =
            EngineConfig { lease_ttl: SignedDuration::from_hours(24 * 365), ..EngineConfig::new(&name) };
        // These jobs do not come from a file, and are never edited.
        let source =
            Source { file: databases.dir.path().join("no.toml"), environment: Environment::default() };
        let app = App::start(source, config, engine, Clock::Manual(clock.clone())).await?;
        let feed = app.engine.feed();
        let mut host = Host { app, clock: clock.clone(), plugins, feed };
        host.until_ready().await;
        Ok(host)
    }

    /// Waits until every job that has a plugin in the folder can start.
    async fn until_ready(&mut self) {
        let plugins = self.plugins.clone();
        let jobs = self.app.engine.jobs().to_vec();
        let present = |job: &JobSpec| plugins.join(format!("{}.wasm", job.plugin)).exists();
        for job in jobs.into_iter().filter(|job| present(job)) {
            self.until("the plugin is active", |host| {
                matches!(host.app.engine.readiness(&job), domain::runner::Readiness::Ready(_))
            })
            .await;
        }
    }

    /// Checks again after every engine event.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Host) -> bool) {
        let wait = async {
            while !holds(self) {
                self.something().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited {PATIENCE:?} for: {what}");
        }
    }

    /// Returns after the next engine event, or after a short time: an event may have been missed.
    pub async fn something(&mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(20), self.feed.recv()).await;
    }

    /// Waits until no work is left at this instant.
    pub async fn settle(&mut self) {
        let wait = async {
            while !self.quiet().await {
                self.something().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let items = self.app.store.items().list(None, None, 20).await;
            let runs = self.app.store.runs().list(None, 5).await;
            panic!("not settled after {PATIENCE:?}; runs: {runs:#?}; items: {items:#?}");
        }
    }

    async fn quiet(&self) -> bool {
        for job in self.app.engine.jobs().iter() {
            if !self.job_quiet(job).await {
                return false;
            }
        }
        true
    }

    async fn job_quiet(&self, job: &JobSpec) -> bool {
        let (store, now) = (&self.app.store, self.clock.now());
        let ticked_at = store.jobs().ticked_at(&job.name).await.unwrap();
        if job.schedule.due(ticked_at, now).is_some() {
            return false;
        }
        // In the order in which work flows, so that no work is missed between two checks.
        let held_by_rate = store.items().rate_left(job, now).await.unwrap() == Some(0);
        let runs = store.runs().list(Some(job.name.as_str()), 5).await.unwrap();
        if runs.iter().any(|run| run.state == "discovering") {
            return false;
        }
        let open = runs.iter().any(|run| run.state == "running");
        let items = store.items().list(Some(job.name.as_str()), None, 100_000).await.unwrap();
        if items.iter().any(|item| item.state == State::Running) {
            return false;
        }
        let due = |item: &ItemView| !item.state.is_end() && item.due_at <= now;
        held_by_rate || !(open || items.iter().any(due))
    }

    /// Advances the clock by a minute, and waits until the resulting work is done.
    pub async fn minute(&mut self) {
        self.advance(SignedDuration::from_mins(1)).await;
    }

    pub async fn advance(&mut self, by: SignedDuration) {
        self.clock.advance(by);
        self.settle().await;
    }

    pub async fn item(&self, job: &str, key: &str) -> ItemView {
        let item = self.app.store.items().get(job, key).await.unwrap();
        item.unwrap_or_else(|| panic!("there is no item {key} of {job}"))
    }
}

fn config(name: &str, databases: &Databases, plugins: &Path, jobs: Vec<JobSpec>) -> Config {
    let source = DatasourceConfig { url: databases.business_url.clone(), password: None };
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        http: server::http::HttpLimits::DEFAULT,
        data_dir: databases.dir.path().join(format!("host-{name}")),
        host_name: name.to_owned(),
        store: StoreConfig {
            url: databases.store_url.clone(),
            password: None,
            notify: true,
            datasources: BTreeMap::from([
                ("business".to_owned(), source.clone()),
                ("witness".to_owned(), source),
            ]),
        },
        plugins: PluginsConfig {
            dir: plugins.to_owned(),
            signatures: Default::default(),
            shared: true,
            release: Default::default(),
            load: Default::default(),
        },
        compiler: Compiler::Child(Child::of(binary())),
        engine: EngineConfig::new(name),
        sinks: Vec::new(),
        tls: Default::default(),
        secrets: Default::default(),
        audit: None,
        jobs: jobs.into_iter().map(Arc::new).collect(),
        log: LogConfig::default(),
    }
}

/// A job with the plugin of the same name that only starts manually.
pub fn job(name: &str) -> JobSpec {
    JobSpec {
        name: name.parse().unwrap(),
        plugin: name.parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants::default(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT },
        flow: Flow::default(),
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}
