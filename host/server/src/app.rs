//! The wiring: store, sandbox, engine, plugins folder and HTTP, started in this order and stopped in reverse.

use std::net::SocketAddr;
use std::path::PathBuf;
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
use ureq::tls::Certificate;

use crate::api::{AppState, router};
use crate::archive::Archiver;
use crate::config::{Config, Environment};
use crate::config_reload::ConfigReload;
use crate::delivery::Delivery;
use crate::host_lock::{HostLock, host_id};
use crate::hot_reload::HotReload;

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
    /// Has the plugins folder looked at.
    plugins: Arc<Notify>,
    stop: CancellationToken,
    http: JoinHandle<()>,
    reload: JoinHandle<()>,
    delivery: JoinHandle<()>,
    archiver: JoinHandle<()>,
    _lock: HostLock,
}

impl App {
    pub async fn start(config: Config, engine: EngineConfig, clock: Clock) -> anyhow::Result<App> {
        crate::api::metrics::install();
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().context("the socket has no address")?;
        let lock = HostLock::take(&config.data_dir, &config.store.url)?;
        let host = host_id(&config.data_dir, clock.now())?;
        let store = Arc::new(Store::open(&config.store).await?);

        let check: Arc<dyn StatementCheck> = Arc::new(StoreCheck(store.clone()));
        let mut settings = SandboxConfig::new(&config.plugins_dir, clock.clone());
        settings.attempts_max = engine.attempts_max;
        settings.certificates.clone_from(&config.certificates);
        let sandbox = Sandbox::new(settings, Some(check))?;

        let engine =
            Engine::start(engine, host, store.clone(), sandbox.clone(), clock.clone(), config.jobs).await?;
        let engine = Arc::new(engine);
        let stop = CancellationToken::new();
        let archiver =
            Archiver { store: store.clone(), config: config.audit, clock: clock.clone(), stop: stop.clone() };
        let archiver = tokio::spawn(archiver.run());
        let delivery = Delivery {
            store: store.clone(),
            sinks: config.sinks,
            certificates: config
                .certificates
                .iter()
                .map(|one| Certificate::from_der(one).to_owned())
                .collect(),
            clock: clock.clone(),
            stop: stop.clone(),
        };
        let delivery = tokio::spawn(delivery.run());
        let plugins = Arc::new(Notify::new());
        let reload = HotReload {
            sandbox: sandbox.clone(),
            engine: engine.clone(),
            store: store.clone(),
            nudge: plugins.clone(),
            stop: stop.clone(),
        };
        let reload = tokio::spawn(reload.run(config.plugins_dir));
        let state = AppState {
            store: store.clone(),
            engine: engine.clone(),
            sandbox: sandbox.clone(),
            clock: clock.clone(),
            listen: address,
            stopping: stop.clone(),
        };
        let http = tokio::spawn(serve_http(listener, state, stop.clone()));
        Ok(App {
            store,
            engine,
            sandbox,
            clock,
            address,
            plugins,
            stop,
            http,
            reload,
            delivery,
            archiver,
            _lock: lock,
        })
    }

    /// Takes over edits of this file, from what is in effect on.
    pub fn follow(&self, file: PathBuf, environment: Environment, current: Config) {
        let reload = ConfigReload {
            file,
            environment,
            engine: self.engine.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            plugins: self.plugins.clone(),
            stop: self.stop.clone(),
        };
        tokio::spawn(reload.run(current));
    }

    /// Ends everything in order; what could not end in time is put back for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        let http = self.http.abort_handle();
        if tokio::time::timeout(HTTP_GRACE, self.http).await.is_err() {
            http.abort();
        }
        let _ = self.reload.await;
        let _ = self.delivery.await;
        let _ = self.archiver.await;
        self.engine.stop().await;
        self.store.close().await;
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

async fn serve_http(listener: TcpListener, state: AppState, stop: CancellationToken) {
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
pub async fn serve(file: PathBuf, environment: Environment, config: Config) -> anyhow::Result<()> {
    let engine = config.engine.clone();
    let jobs = config.jobs.len();
    let app = App::start(config.clone(), engine, Clock::steady()).await?;
    app.follow(file, environment, config);
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
