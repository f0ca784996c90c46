//! The HTTP API: one file per resource, each with its `router()` and the types of its requests and responses,
//! which the command line reads, too. Times are RFC 3339 text. [`guard`] checks all requests, and [`error`]
//! defines the form of error responses.

mod actor;
pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod batches;
mod component;
pub(crate) mod edits;
pub(crate) mod error;
mod events;
mod extract;
mod filters;
mod guard;
pub(crate) mod health;
pub(crate) mod hosts;
mod idempotency;
pub(crate) mod items;
pub(crate) mod jobs;
pub(crate) mod locks;
pub(crate) mod metrics;
pub(crate) mod outbox;
mod path;
pub(crate) mod plugins;
pub(crate) mod recover;
pub(crate) mod releases;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod trials;
mod waits;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use domain::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::config_reload::Live;
use crate::dashboard::Pages;
use crate::versions::SharedVersions;

pub use self::actor::hash as hash_of_token;
pub(crate) use self::component::{KIND as COMPONENT_KIND, SIGNATURE as COMPONENT_SIGNATURE};
pub use self::error::ApiError;
pub(crate) use self::events::STREAMS_MAX;
use self::events::Streams;
pub(crate) use self::extract::Params;
pub(crate) use self::idempotency::KEY as IDEMPOTENCY_KEY;
pub(crate) use self::path::path;

/// Largest body of a request that is read.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Entries of a list: the default without `limit`, and the maximum.
pub const LIMIT_DEFAULT: u32 = 50;
pub const LIMIT_MAX: u32 = 500;

/// The parts of the running host that the handlers use.
#[derive(Clone)]
pub struct AppState {
    pub config: Arc<Live>,
    pub store: Arc<store::Store>,
    pub engine: Arc<engine::Engine>,
    pub sandbox: Arc<sandbox::Sandbox>,
    pub versions: Arc<SharedVersions>,
    pub clock: Clock,
    /// The actual listening address: its port is part of the allowed `Host`.
    pub listen: SocketAddr,
    /// Ends the event streams, which would otherwise block an orderly stop for ever.
    pub stopping: CancellationToken,
}

/// The API and the page, behind the `guard`.
pub fn router(state: AppState) -> Router {
    let streams = Streams::new(STREAMS_MAX);
    let pages = Pages::new();
    let resources = Router::new()
        .merge(jobs::router())
        .merge(runs::router())
        .merge(schedules::router())
        .merge(edits::router())
        .merge(items::router())
        .merge(plugins::router())
        .merge(releases::router())
        .merge(trials::router())
        .merge(hosts::router())
        .merge(locks::router())
        .merge(alerts::router())
        .merge(batches::router())
        .merge(recover::router())
        .merge(audit::router())
        .merge(metrics::router())
        .merge(outbox::router())
        .merge(health::router())
        .merge(events::router(streams))
        .merge(crate::dashboard::router(pages.clone()));
    resources
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(state.clone(), idempotency::check))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(pages, Pages::note))
        .layer(from_fn_with_state(state.clone(), actor::check))
        .layer(from_fn_with_state(state.listen, guard::check))
        .with_state(state)
}
