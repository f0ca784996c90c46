//! Events for the world outside: read, handled, then taken. What is not taken comes again.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::EventId;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Body, Params, limit};
use super::types::{Outbox, OutboxEvent, Take, Taken};
use super::{AppState, LIMIT_MAX};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/outbox", get(list)).route("/api/v1/outbox/taken", post(take))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    topic: Option<String>,
    limit: Option<u32>,
}

async fn list(
    State(state): State<AppState>,
    Params(filter): Params<Filter>,
) -> Result<Json<Outbox>, ApiError> {
    let events = state.store.events_pending(filter.topic.as_deref(), limit(filter.limit)).await?;
    let events = events.into_iter().map(|event| OutboxEvent {
        id: event.id.to_string(),
        topic: event.topic,
        key: event.key,
        payload: event.payload,
        job: event.job.to_string(),
        created_at: event.created_at,
    });
    Ok(Json(Outbox { events: events.collect() }))
}

async fn take(State(state): State<AppState>, Body(body): Body<Take>) -> Result<Json<Taken>, ApiError> {
    if body.ids.len() > LIMIT_MAX as usize {
        return Err(ApiError::bad_body(format!("ids: at most {LIMIT_MAX} at a time")));
    }
    let parse = |(at, id): (usize, &String)| {
        id.parse().map_err(|_| ApiError::bad_body(format!("ids[{at}]: {id:?} is not an event's id")))
    };
    let ids: Vec<EventId> = body.ids.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    let taken = state.store.events_taken(&ids, state.clock.now()).await?;
    Ok(Json(Taken { taken }))
}
