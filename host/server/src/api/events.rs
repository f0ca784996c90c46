//! A live stream of engine events, one JSON document per event. A client that is too slow is disconnected, so
//! that it reads the lists again; it delays no other client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::http::{ApiError, STREAMS_MAX};
use crate::state::AppState;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures_util::Stream;
use futures_util::stream::unfold;
use store::feed::Published;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

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
        let published = follower.next().await?;
        let json = serde_json::to_string(&published).unwrap_or_default();
        let event = Event::default().event(published.event.kind()).data(json);
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)))
}

struct Follower {
    feed: Receiver<Published>,
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` when the host stops or when events were missed.
    async fn next(&mut self) -> Option<Published> {
        tokio::select! {
            () = self.stopping.cancelled() => None,
            published = self.feed.recv() => published.ok(),
        }
    }
}
