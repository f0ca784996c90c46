//! The parts of the running host that the API, the page and the probes use.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::clock::Clock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::reload::Live;
use crate::plugins::SharedVersions;

#[derive(Clone)]
pub struct AppState {
    pub config: Arc<Live>,
    pub store: Arc<store::Store>,
    pub engine: Arc<engine::Engine>,
    pub sandbox: Arc<sandbox::Sandbox>,
    pub versions: Arc<SharedVersions>,
    pub clock: Clock,
    /// Uploads are handled one at a time: components are large and are compiled.
    pub uploads: Arc<Semaphore>,
    /// The actual listening address: its port is part of the allowed `Host`.
    pub listen: SocketAddr,
    /// Ends the event streams, which would otherwise block an orderly stop for ever.
    pub stopping: CancellationToken,
}
