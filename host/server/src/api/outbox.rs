//! Events for external consumers: read, handled, then acknowledged. An event that is not
//! acknowledged is returned again.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::EventId;
use serde::Deserialize;

use super::actor::Actor;
use super::error::ApiError;
use super::extract::{Body, Most, Params, limit};
use super::filters::check_topic;
use super::types::{DeadEvent, DeadLetters, Outbox, OutboxEvent, Redrive, Redriven, Take, Taken};
use super::{AppState, LIMIT_MAX};

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/outbox", get(list))
        .route("/api/v1/outbox/taken", post(take))
        .route("/api/v1/outbox/dead", get(dead))
        .route("/api/v1/outbox/redrive", post(redrive))
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
    // Events of a topic that is no longer granted are still listed.
    if let (true, Some(topic)) = (events.is_empty(), &filter.topic) {
        check_topic(&state, topic)?;
    }
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

async fn take(
    State(state): State<AppState>,
    actor: Actor,
    Body(body): Body<Take>,
) -> Result<Json<Taken>, ApiError> {
    if body.ids.len() > LIMIT_MAX as usize {
        return Err(ApiError::bad_body(format!("ids: at most {LIMIT_MAX} at a time")));
    }
    let ids = parse(&body.ids)?;
    let taken = state.store.events_taken(&ids, &actor.0, state.clock.now()).await?;
    Ok(Json(Taken { taken }))
}

fn parse(ids: &[String]) -> Result<Vec<EventId>, ApiError> {
    let parse = |(at, id): (usize, &String)| {
        id.parse().map_err(|_| ApiError::bad_body(format!("ids[{at}]: {id:?} is not an event's id")))
    };
    ids.iter().enumerate().map(parse).collect()
}

async fn dead(
    State(state): State<AppState>,
    Params(most): Params<Most>,
) -> Result<Json<DeadLetters>, ApiError> {
    let events = state.store.events_dead(most.limit()).await?;
    let events = events.into_iter().map(|dead| DeadEvent {
        id: dead.event.id.to_string(),
        topic: dead.event.topic,
        key: dead.event.key,
        payload: dead.event.payload,
        job: dead.event.job.to_string(),
        created_at: dead.event.created_at,
        tries: dead.tries,
        dead_at: dead.dead_at,
        error: dead.error,
    });
    Ok(Json(DeadLetters { events: events.collect() }))
}

async fn redrive(
    State(state): State<AppState>,
    actor: Actor,
    Body(body): Body<Redrive>,
) -> Result<Json<Redriven>, ApiError> {
    let ids = body.ids.as_deref().map(parse).transpose()?;
    let redriven = state.store.events_redrive(ids.as_deref(), &actor.0, state.clock.now()).await?;
    Ok(Json(Redriven { redriven }))
}
