//! The HTTP API: one file per resource, each with its `router()` and the types of its requests and responses,
//! which the command line reads, too. Times are RFC 3339 text. [`host_check`], [`authentication`] and
//! [`idempotency`] check every request.

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod authentication;
pub(crate) mod batches;
pub(crate) mod bulk;
mod component;
pub(crate) mod edits;
mod events;
mod extract;
mod filters;
pub(crate) mod health;
pub(crate) mod host_check;
pub(crate) mod hosts;
pub(crate) mod idempotency;
pub(crate) mod items;
pub(crate) mod jobs;
pub(crate) mod lines;
pub(crate) mod locks;
pub(crate) mod metrics;
pub(crate) mod outbox;
mod path;
pub(crate) mod plugins;
pub(crate) mod recover;
mod releases;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod uploads;
pub(crate) mod versions;
mod waits;

use axum::Router;

pub use self::authentication::hash as hash_of_token;
pub(crate) use self::component::SIGNATURE as COMPONENT_SIGNATURE;
use self::events::Streams;
pub(crate) use self::extract::{LIMIT_DEFAULT, Params};
pub(crate) use self::idempotency::KEY as IDEMPOTENCY_KEY;
pub(crate) use self::path::path;
use crate::http::STREAMS_MAX;
use crate::state::AppState;

/// The resources of the API, without the checks of requests.
pub fn resources() -> Router<AppState> {
    Router::new()
        .merge(jobs::router())
        .merge(runs::router())
        .merge(schedules::router())
        .merge(edits::router())
        .merge(items::router())
        .merge(plugins::router())
        .merge(releases::router())
        .merge(uploads::router())
        .merge(hosts::router())
        .merge(locks::router())
        .merge(alerts::router())
        .merge(batches::router())
        .merge(recover::router())
        .merge(audit::router())
        .merge(metrics::router())
        .merge(outbox::router())
        .merge(health::router())
        .merge(events::router(Streams::new(STREAMS_MAX)))
}
