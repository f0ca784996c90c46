//! Events for external consumers: read, handled, then acknowledged. An event that is not
//! acknowledged is returned again.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::EventId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::events::delivery;
use store::events::outbox::EventView;

use super::authentication::Actor;
use super::extract::{Body, LIMIT_MAX, Most, Params, limit};
use super::filters::check_topic;
use crate::http::ApiError;
use crate::state::AppState;

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
    let events = state.store.outbox().pending(filter.topic.as_deref(), limit(filter.limit)).await?;
    // Events of a topic that is no longer granted are still listed.
    if let (true, Some(topic)) = (events.is_empty(), &filter.topic) {
        check_topic(&state, topic)?;
    }
    Ok(Json(Outbox { events: events.into_iter().map(OutboxEvent::from).collect() }))
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
    let taken = state.store.outbox().taken(&ids, &actor.0, state.clock.now()).await?;
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
    let events = state.store.outbox().dead(most.limit()).await?;
    Ok(Json(DeadLetters { events: events.into_iter().map(DeadEvent::from).collect() }))
}

async fn redrive(
    State(state): State<AppState>,
    actor: Actor,
    Body(body): Body<Redrive>,
) -> Result<Json<Redriven>, ApiError> {
    let ids = body.ids.as_deref().map(parse).transpose()?;
    let redriven = state.store.outbox().redrive(ids.as_deref(), &actor.0, state.clock.now()).await?;
    Ok(Json(Redriven { redriven }))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outbox {
    pub events: Vec<OutboxEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboxEvent {
    pub id: String,
    pub topic: String,
    pub key: String,
    pub payload: String,
    pub job: String,
    pub created_at: Timestamp,
}

impl From<EventView> for OutboxEvent {
    fn from(event: EventView) -> OutboxEvent {
        OutboxEvent {
            id: event.id.to_string(),
            topic: event.topic,
            key: event.key,
            payload: event.payload,
            job: event.job.to_string(),
            created_at: event.created_at,
        }
    }
}

/// Events that a consumer has safely taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    pub ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// How many of them were not acknowledged before.
    pub taken: u64,
}

/// Events that were given up because their sink did not accept them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetters {
    pub events: Vec<DeadEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadEvent {
    pub id: String,
    pub topic: String,
    pub key: String,
    pub payload: String,
    pub job: String,
    pub created_at: Timestamp,
    pub tries: u32,
    pub dead_at: Timestamp,
    pub error: String,
}

impl From<delivery::DeadEvent> for DeadEvent {
    fn from(dead: delivery::DeadEvent) -> DeadEvent {
        DeadEvent {
            id: dead.event.id.to_string(),
            topic: dead.event.topic,
            key: dead.event.key,
            payload: dead.event.payload,
            job: dead.event.job.to_string(),
            created_at: dead.event.created_at,
            tries: dead.tries,
            dead_at: dead.dead_at,
            error: dead.error,
        }
    }
}

/// The dead events to send again; without ids, all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    #[serde(default)]
    pub ids: Option<Vec<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Redriven {
    pub redriven: u64,
}
