//! A live stream of engine events, one JSON document per event. A client that is too slow is disconnected, so
//! that it reads the lists again; it delays no other client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use engine::feed::EngineEvent;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::AppState;
use super::error::ApiError;

/// Streams that are open at the same time.
pub(crate) const STREAMS_MAX: usize = 64;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Permits for streams: each stream holds one until it ends.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Semaphore>);

impl Streams {
    pub fn new(max: usize) -> Streams {
        Streams(Arc::new(Semaphore::new(max)))
    }

    pub fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{STREAMS_MAX} streams of events are open already; try again later");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail)
        })
    }
}

pub(crate) fn router(streams: Streams) -> Router<AppState> {
    Router::new().route("/api/v1/events", get(move |state| stream(state, streams)))
}

async fn stream(
    State(state): State<AppState>,
    streams: Streams,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let follower =
        Follower { feed: state.engine.feed(), stopping: state.stopping.clone(), _permit: streams.enter()? };
    let events = unfold(follower, |mut follower| async {
        let engine_event = follower.next().await?;
        let event = Event::default().event(engine_event.kind()).data(document(&engine_event).to_string());
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)))
}

struct Follower {
    feed: Receiver<EngineEvent>,
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the host stops or when events were missed.
    async fn next(&mut self) -> Option<EngineEvent> {
        tokio::select! {
            () = self.stopping.cancelled() => None,
            engine_event = self.feed.recv() => engine_event.ok(),
        }
    }
}

fn document(engine_event: &EngineEvent) -> Value {
    let kind = engine_event.kind();
    match engine_event {
        EngineEvent::Ticked { job, fate } => {
            json!({ "kind": kind, "job": job.as_str(), "fate": fate.as_str() })
        }
        EngineEvent::RunStarted { job, run }
        | EngineEvent::RunProgressed { job, run }
        | EngineEvent::Discovered { job, run } => {
            json!({ "kind": kind, "job": job.as_str(), "run_id": run.to_string() })
        }
        EngineEvent::DiscoveryFailed { job, run, code } => {
            json!({ "kind": kind, "job": job.as_str(), "run_id": run.to_string(), "code": code })
        }
        EngineEvent::AttemptEnded { job, key, verdict } => {
            json!({ "kind": kind, "job": job.as_str(), "key": key, "verdict": verdict.as_str() })
        }
        EngineEvent::AttemptStale { job, key } | EngineEvent::Recovered { job, key } => {
            json!({ "kind": kind, "job": job.as_str(), "key": key })
        }
        EngineEvent::Plugins | EngineEvent::StoreLost | EngineEvent::StoreBack => json!({ "kind": kind }),
    }
}
