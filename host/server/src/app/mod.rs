//! Wires store, sandbox, engine, plugins folder and HTTP. They start in this order and stop in reverse.

pub(crate) mod host_lock;
pub(crate) mod router;
pub(crate) mod signals;
pub(crate) mod threads;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use domain::clock::Clock;
use domain::plugin::Statement;
use engine::{Engine, EngineConfig, Identity};
use sandbox::{Sandbox, SandboxConfig, StatementCheck};
use store::Store;
use store::opening::schema::Opening;
use store::opening::store_id::{self, Remembered};
use store::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::host_lock::{HostLock, host_id};
use self::router::router;
use self::signals::Signals;
use crate::archive::Archiver;
use crate::config::memory::Machine;
use crate::config::reload::{ConfigReload, Effective, Live, at_start};
use crate::config::text::show_bytes;
use crate::config::{Config, Source};
use crate::delivery::{Delivery, SinkWorker};
use crate::health::monitor::Monitor;
use crate::http::HttpLimits;
use crate::plugins::{ScanLoop, SharedVersions, TrialLoop};
use crate::state::AppState;

/// How long requests in progress may take after the stop signal.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// A compiler may use 1 GiB: a machine with less memory than this runs one at a time.
const ONE_COMPILER_BELOW: u64 = 4 << 30;

/// Calls of plugins that the engine does not count: versions that describe themselves, and replays.
const CALLS_BESIDE_ENGINE: u32 = 8;

/// A running host.
pub struct App {
    pub store: Arc<Store>,
    pub engine: Arc<Engine>,
    pub sandbox: Arc<Sandbox>,
    pub clock: Clock,
    /// The actual listening address: port 0 in the configuration means any free port.
    pub address: SocketAddr,
    live: Arc<Live>,
    stop: CancellationToken,
    http: JoinHandle<()>,
    background: Background,
    _lock: HostLock,
}

impl App {
    pub async fn start(
        source: Source,
        config: Config,
        engine: EngineConfig,
        clock: Clock,
    ) -> anyhow::Result<App> {
        crate::api::metrics::install();
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().context("the socket has no address")?;
        let lock = HostLock::take(&config.data_dir, &config.store.url)?;
        let host = host_id(&config.data_dir, clock.now())?;
        let known = Remembered::of(&config.data_dir)?;
        let store = Arc::new(Store::open_known(&config.store, upgrade(&config), known.as_ref()).await?);
        store_id::remember(&config.data_dir, store.id())
            .with_context(|| format!("cannot write store-id in {}", config.data_dir.display()))?;

        let sandbox = open_sandbox(&config, &engine, &store, clock.clone())?;
        let engine = fitting(engine, sandbox.calls_max());

        let stopping = CancellationToken::new();
        let delivery = Delivery {
            store: store.clone(),
            sinks: config.sinks.clone(),
            tls: config.tls.clone(),
            clock: clock.clone(),
            stop: stopping.clone(),
        };
        let workers = delivery.workers()?;
        let current = at_start(&source, &store, config.clone(), clock.now()).await?;
        let jobs = current.jobs.clone();
        let identity = Identity { id: host, place: lock.place() };
        let engine =
            Engine::start(engine, identity, store.clone(), sandbox.clone(), clock.clone(), jobs).await?;
        let versions = Arc::new(SharedVersions {
            store: store.clone(),
            rules: config.plugins.release.clone(),
            shared: config.plugins.shared && config.store.is_postgres(),
            host,
            clock: clock.clone(),
        });
        let state = AppState {
            config: Arc::new(Live::of(source)),
            store,
            engine: Arc::new(engine),
            sandbox,
            versions,
            clock,
            uploads: Arc::new(Semaphore::new(1)),
            listen: address,
            stopping,
        };
        let limits = config.http;
        let background = Background::start(&state, config, current, workers);
        let http = serve_supervised(listener, state.clone(), limits)?;
        let AppState { store, engine, sandbox, clock, stopping, config: live, .. } = state;
        Ok(App {
            store,
            engine,
            sandbox,
            clock,
            address,
            live,
            stop: stopping,
            http,
            background,
            _lock: lock,
        })
    }

    /// Returns when a signal requests the stop, or when another process took over the id of this host. Until
    /// then it reads the configuration again whenever a signal requests that.
    pub async fn until_stop(&self, signals: &Signals) {
        loop {
            tokio::select! {
                _ = signals.stop.cancelled() => return,
                _ = self.engine.displaced() => return,
                _ = signals.reload.notified() => self.live.reload.notify_one(),
            }
        }
    }

    /// Stops all parts in order. Attempts that do not end in time are put back for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        let http = self.http.abort_handle();
        if tokio::time::timeout(HTTP_GRACE, self.http).await.is_err() {
            http.abort();
        }
        self.background.ended().await;
        self.engine.stop().await;
        self.store.close().await;
    }
}

/// Creates or upgrades the tables of the store, unless other hosts are using them.
pub fn upgrade(config: &Config) -> Opening {
    Opening::Upgrade { lease: config.engine.lease_ttl.unsigned_abs() }
}

fn open_sandbox(
    config: &Config,
    engine: &EngineConfig,
    store: &Arc<Store>,
    clock: Clock,
) -> anyhow::Result<Arc<Sandbox>> {
    let check: Arc<dyn StatementCheck> = Arc::new(StoreCheck(store.clone()));
    let mut settings = SandboxConfig::new(&config.plugins.dir, clock);
    settings.compiler = config.compiler.clone();
    settings.data_dir = Some(config.data_dir.clone());
    let calls_max = engine.attempts_max.saturating_add(engine.discoveries_max);
    settings.load = config.plugins.load;
    settings.attempts_max = calls_max.saturating_add(CALLS_BESIDE_ENGINE);
    if Machine::this().bytes < ONE_COMPILER_BELOW {
        settings.compiles_max = 1;
    }
    settings.certificates.clone_from(&config.tls.certificates);
    settings.signatures.clone_from(&config.plugins.signatures);
    Ok(Sandbox::new(settings, Some(check))?)
}

/// Limits discoveries and the calls outside the engine to at most three eighths of all calls.
fn fitting(mut engine: EngineConfig, calls_max: u32) -> EngineConfig {
    let beside = CALLS_BESIDE_ENGINE.min(calls_max / 8);
    engine.discoveries_max = engine.discoveries_max.min(calls_max / 4).max(1);
    let left = calls_max.saturating_sub(beside).saturating_sub(engine.discoveries_max);
    engine.attempts_max = engine.attempts_max.min(left).max(1);
    engine
}

/// The loops beside the engine and HTTP, until the stop. Each loop is supervised.
struct Background {
    tracker: TaskTracker,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Background {
    /// `config` is the configuration at the start, `current` the one in effect.
    fn start(state: &AppState, config: Config, current: Config, workers: Vec<SinkWorker>) -> Background {
        let AppState { store, engine, sandbox, versions, clock, stopping, .. } = state.clone();
        let (tasks, stop, nudge) = (store.tasks().clone(), stopping, Arc::new(Notify::new()));
        let background = Background { tracker: TaskTracker::new(), tasks, stop: stop.clone() };
        background.spawn("health", Monitor::new(state.clone()), Monitor::run);
        background.spawn("metrics", stop.clone(), |stop| crate::api::metrics::count((*stop).clone()));
        if let Some(config) = config.audit {
            let archiver = Archiver {
                store: store.clone(),
                config,
                clock: clock.clone(),
                engine: engine.clone(),
                stop: stop.clone(),
            };
            background.spawn("archive", archiver, Archiver::run);
        }
        for worker in workers {
            background.spawn(&format!("delivery {}", worker.sink()), worker, SinkWorker::run);
        }
        let trials = TrialLoop {
            versions: versions.clone(),
            sandbox: sandbox.clone(),
            engine: engine.clone(),
            nudge: nudge.clone(),
            stop: stop.clone(),
        };
        background.spawn("rollout", trials, TrialLoop::run);
        let plugins = nudge.clone();
        let scans = ScanLoop {
            dir: config.plugins.dir,
            sandbox,
            engine: engine.clone(),
            versions,
            nudge,
            stop: stop.clone(),
            last_scan: Mutex::default(),
        };
        background.spawn("plugins", scans, ScanLoop::run);
        let effective = Effective { config: current, seen: None }.into();
        let settings =
            ConfigReload { live: state.config.clone(), engine, store, clock, plugins, stop, effective };
        background.spawn("configuration", settings, ConfigReload::run);
        background
    }

    /// Starts a loop. Its state `of` outlives its failures.
    fn spawn<T, F>(&self, name: &str, of: T, run: impl Fn(Arc<T>) -> F + Send + 'static)
    where
        T: Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let of = Arc::new(of);
        let run = move || run(of.clone());
        self.tracker.spawn(self.tasks.clone().supervise(name.to_owned(), self.stop.clone(), run));
    }

    async fn ended(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use: stop the process that listens there (another tidemill?), or set server.listen to another port"
        ),
        _ => anyhow::anyhow!("cannot listen on {address}: {e}; check server.listen"),
    })
}

/// Each restart of the server listens on a copy of the same socket.
fn serve_supervised(
    listener: TcpListener,
    state: AppState,
    limits: HttpLimits,
) -> anyhow::Result<JoinHandle<()>> {
    let listener = listener.into_std().context("the socket cannot be handed over")?;
    let (tasks, stop) = (state.store.tasks().clone(), state.stopping.clone());
    let run = move || serve_http(listener.try_clone(), state.clone(), limits);
    Ok(tokio::spawn(tasks.supervise("http", stop, run)))
}

async fn serve_http(listener: std::io::Result<std::net::TcpListener>, state: AppState, limits: HttpLimits) {
    let listener = match listener.and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the socket cannot be listened on"),
    };
    let stop = state.stopping.clone();
    crate::http::serve(listener, router(state), limits, stop).await;
}

struct StoreCheck(Arc<Store>);

#[async_trait]
impl StatementCheck for StoreCheck {
    async fn check(&self, statement: &Statement) -> Result<(), String> {
        self.0.attempts().check_statement(statement).await
    }
}

/// Runs a host until a signal requests its stop. A signal during the start ends the start.
pub async fn serve(
    source: Source,
    config: Config,
    engine: EngineConfig,
    clock: Clock,
    signals: Signals,
) -> anyhow::Result<()> {
    let jobs = config.jobs.len();
    say_memory(&engine);
    let app = tokio::select! {
        app = App::start(source, config, engine, clock) => app?,
        _ = signals.stop.cancelled() => {
            tracing::info!("stopped during the start");
            return Ok(());
        }
    };
    tracing::info!(address = %format!("http://{}", app.address), jobs, attempts = app.engine.attempts_max(), "tidemill serves");
    app.until_stop(&signals).await;
    let engine = app.engine.clone();
    app.stop().await;
    tracing::info!("stopped");
    anyhow::ensure!(!engine.is_displaced(), "another process took over the id of host {}", engine.host_id());
    Ok(())
}

/// Logs how much memory attempts may use, and the source of that limit.
fn say_memory(engine: &EngineConfig) {
    let bytes = engine.memory_bytes as u64;
    let (memory, from) = (show_bytes(bytes), engine.memory_from.as_deref().unwrap_or("engine.memory"));
    tracing::info!(memory, from, "memory for attempts");
    if let Some(reason) = Machine::this().overcommitted_by(bytes) {
        tracing::warn!(
            reason,
            "attempts may use more memory than there is, and the kernel may kill the host; lower engine.memory"
        );
    }
}
