//! The wiring: store, sandbox, engine, plugins folder and HTTP, started in this order and stopped in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use domain::clock::Clock;
use domain::plugin::Statement;
use engine::{Engine, EngineConfig};
use sandbox::{Sandbox, SandboxConfig, StatementCheck};
use store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{AppState, router};
use crate::archive::Archiver;
use crate::config::{Config, Source};
use crate::config_reload::{ConfigReload, Live, at_start};
use crate::delivery::{self, Courier, Delivery};
use crate::host_lock::{HostLock, host_id};
use crate::hot_reload::HotReload;
use crate::rollout::Rollout;
use crate::versions::SharedVersions;

/// How long requests that are being answered may take after the stop signal.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// A running host.
pub struct App {
    pub store: Arc<Store>,
    pub engine: Arc<Engine>,
    pub sandbox: Arc<Sandbox>,
    pub clock: Clock,
    /// Where it really listens: port 0 in the configuration means any free one.
    pub address: SocketAddr,
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
        let store = Arc::new(Store::open(&config.store).await?);

        let check: Arc<dyn StatementCheck> = Arc::new(StoreCheck(store.clone()));
        let mut settings = SandboxConfig::new(&config.plugins.dir, clock.clone());
        settings.compiler = config.compiler.clone();
        settings.data_dir = Some(config.data_dir.clone());
        settings.load = config.plugins.load;
        settings.attempts_max = engine.attempts_max;
        settings.certificates.clone_from(&config.tls.certificates);
        settings.signatures.clone_from(&config.plugins.signatures);
        let sandbox = Sandbox::new(settings, Some(check))?;

        let stopping = CancellationToken::new();
        let delivery = Delivery {
            store: store.clone(),
            sinks: config.sinks.clone(),
            tls: config.tls.clone(),
            clock: clock.clone(),
            stop: stopping.clone(),
        };
        let couriers = delivery.couriers()?;
        let current = at_start(&source, &store, config.clone(), clock.now()).await?;
        let jobs = current.jobs.clone();
        let engine = Engine::start(engine, host, store.clone(), sandbox.clone(), clock.clone(), jobs).await?;
        let versions = Arc::new(SharedVersions {
            store: store.clone(),
            rules: config.plugins.release.clone(),
            shared: config.plugins.shared && config.store.is_postgres(),
            host,
            clock: clock.clone(),
        });
        let state = AppState {
            config: Arc::new(Live { source, edited: Arc::default() }),
            store,
            engine: Arc::new(engine),
            sandbox,
            versions,
            clock,
            listen: address,
            stopping,
        };
        let background = Background::start(&state, config, current, couriers);
        let http = tokio::spawn(serve_http(listener, state.clone()));
        let AppState { store, engine, sandbox, clock, stopping, .. } = state;
        Ok(App { store, engine, sandbox, clock, address, stop: stopping, http, background, _lock: lock })
    }

    /// Ends everything in order; what could not end in time is put back for the next start.
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

/// What goes on beside the engine and HTTP, until the stop.
struct Background {
    plugins: JoinHandle<()>,
    rollout: JoinHandle<()>,
    settings: JoinHandle<()>,
    delivery: JoinHandle<()>,
    archiver: JoinHandle<()>,
    figures: JoinHandle<()>,
}

impl Background {
    /// `config` is what the host was started with, `current` what is in effect.
    fn start(state: &AppState, config: Config, current: Config, couriers: Vec<Courier>) -> Background {
        let AppState { store, engine, sandbox, versions, clock, stopping, .. } = state.clone();
        let (stop, nudge) = (stopping, Arc::new(Notify::new()));
        let figures = crate::api::metrics::count(stop.clone());
        let archiver =
            Archiver { store: store.clone(), config: config.audit, clock: clock.clone(), stop: stop.clone() };
        let rollout = Rollout {
            versions: versions.clone(),
            sandbox: sandbox.clone(),
            engine: engine.clone(),
            nudge: nudge.clone(),
            stop: stop.clone(),
        };
        let plugins =
            HotReload { sandbox, engine: engine.clone(), versions, nudge: nudge.clone(), stop: stop.clone() };
        let settings =
            ConfigReload { live: state.config.clone(), engine, store, clock, plugins: nudge, stop };
        Background {
            plugins: tokio::spawn(plugins.run(config.plugins.dir)),
            rollout: tokio::spawn(rollout.run()),
            settings: tokio::spawn(settings.run(current)),
            delivery: tokio::spawn(delivery::run(couriers)),
            archiver: tokio::spawn(archiver.run()),
            figures: tokio::spawn(figures),
        }
    }

    async fn ended(self) {
        let Background { plugins, rollout, settings, delivery, archiver, figures } = self;
        let _ = tokio::join!(plugins, rollout, settings, delivery, archiver, figures);
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use: stop what listens there (another tidemill?), or set server.listen to another port"
        ),
        _ => anyhow::anyhow!("cannot listen on {address}: {e}; check server.listen"),
    })
}

async fn serve_http(listener: TcpListener, state: AppState) {
    let stop = state.stopping.clone();
    let served = axum::serve(listener, router(state)).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the HTTP server ended");
    }
}

struct StoreCheck(Arc<Store>);

#[async_trait]
impl StatementCheck for StoreCheck {
    async fn check(&self, statement: &Statement) -> Result<(), String> {
        self.0.check_statement(statement).await
    }
}

/// Runs a host until SIGTERM or SIGINT.
pub async fn serve(source: Source, config: Config, engine: EngineConfig, clock: Clock) -> anyhow::Result<()> {
    let jobs = config.jobs.len();
    let app = App::start(source, config, engine, clock).await?;
    tracing::info!(address = %format!("http://{}", app.address), jobs, allocator = app.sandbox.allocator(), "tidemill serves");
    stop_signal().await?;
    app.stop().await;
    tracing::info!("stopped");
    Ok(())
}

pub async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
