//! Batches: items that a client submits together and tracks together.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::batch::{NewBatch, NewBatchItem};
use domain::id::JobName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::items::batches::BatchView;
use uuid::Uuid;

use super::authentication::Actor;
use super::extract::{Body, LIMIT_MAX, Nothing, Params, Segments, limit, text};
use super::items::{Item, Items};
use super::waits;
use crate::config::did_you_mean;
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/batches", get(list).post(add))
        .route("/api/v1/batches/open-items", get(open))
        .route("/api/v1/batches/{id}", get(one))
        .route("/api/v1/batches/{id}/process", post(process))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    limit: Option<u32>,
}

async fn list(
    State(state): State<AppState>,
    Params(filter): Params<Filter>,
) -> Result<Json<Batches>, ApiError> {
    let batches = state.store.batches().list(limit(filter.limit)).await?;
    Ok(Json(Batches { batches: batches.into_iter().map(Batch::from).collect() }))
}

/// Waiting, running and awaiting items of all batches, the oldest first.
async fn open(
    State(state): State<AppState>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items>, ApiError> {
    let items = state.store.batches().open_items(limit(filter.limit)).await?;
    Ok(Json(Items { items: items.into_iter().map(Item::from).collect() }))
}

async fn add(
    State(state): State<AppState>,
    actor: Actor,
    Body(body): Body<AddBatch>,
) -> Result<(StatusCode, Json<AddedBatch>), ApiError> {
    let job = known_job(&state, &body.job)?;
    let payload_bytes = job.limits.payload_bytes;
    let mut items = Vec::with_capacity(body.items.len());
    for (index, asked) in body.items.into_iter().enumerate() {
        let payload = asked.payload.get().to_owned();
        if payload.len() > payload_bytes {
            let detail =
                format!("items[{index}]: a payload of {} bytes, at most {payload_bytes}", payload.len());
            return Err(ApiError::bad_body(detail));
        }
        let reason = asked.failure_reason.unwrap_or_default();
        let reason = text(&format!("items[{index}].failure_reason"), &reason)?;
        let reason = domain::limits::cut(&reason, job.limits.text_bytes);
        items.push(NewBatchItem {
            operation: asked.operation,
            payload,
            reason,
            max_attempts: asked.max_attempts,
        });
    }
    let batch = NewBatch {
        batch: body.id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        job: job.name.clone(),
        created_by: body.created_by.unwrap_or_else(|| actor.0.clone()),
        items,
    };
    if let Some(why) = batch.refused() {
        return Err(ApiError::bad_body(why));
    }
    state.store.batches().add(&batch, &actor.0, state.clock.now()).await?;
    let added = found(&state, &batch.batch).await?;
    let waits = waits::of(&state, added.job.as_str()).await?;
    Ok((StatusCode::CREATED, Json(AddedBatch { batch: added.into(), waits })))
}

fn known_job(state: &AppState, name: &str) -> Result<Arc<domain::job::JobSpec>, ApiError> {
    let job: Option<JobName> = name.parse().ok();
    let known = job.and_then(|job| state.engine.jobs().iter().find(|known| known.name == job).cloned());
    known.ok_or_else(|| {
        let jobs = state.engine.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        ApiError::bad_body(format!("job: there is no job {name:?}{}", did_you_mean(name, &names)))
    })
}

async fn found(state: &AppState, id: &str) -> Result<BatchView, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no batch {id:?}"));
    state.store.batches().get(id).await?.ok_or_else(unknown)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    /// The index of the first item.
    from: Option<u32>,
}

async fn one(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    Params(page): Params<Page>,
) -> Result<Json<BatchWithItems>, ApiError> {
    let batch = found(&state, &id).await?.into();
    let items = state.store.batches().items(
        &id,
        page.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        page.from.unwrap_or(0),
    );
    let items = items.await?.into_iter().map(Item::from).collect();
    Ok(Json(BatchWithItems { batch, items }))
}

async fn process(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<(StatusCode, Json<Processed>), ApiError> {
    found(&state, &id).await?;
    let made_due = state.store.batches().process(&id, &actor.0, state.clock.now()).await?;
    let batch = found(&state, &id).await?;
    let waits = match batch.pending + batch.retrying {
        0 => None,
        _ => waits::of(&state, batch.job.as_str()).await?,
    };
    Ok((StatusCode::ACCEPTED, Json(Processed { made_due, waits, batch: batch.into() })))
}

/// The body that submits a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBatch {
    /// Generated if it is absent. A second batch with the same id is refused, so that no work is done twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub job: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    pub items: Vec<AddBatchItem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBatchItem {
    pub operation: String,
    /// Kept byte for byte.
    pub payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

/// The response to a submitted batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedBatch {
    #[serde(flatten)]
    pub batch: Batch,
    /// Why no attempt of its items starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batches {
    pub batches: Vec<Batch>,
}

/// A batch, counted by the states of its items.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batch {
    pub id: String,
    pub job: String,
    pub created_by: String,
    pub created_at: Timestamp,
    pub total: u32,
    pub pending: u32,
    pub retrying: u32,
    pub running: u32,
    pub resolved: u32,
    pub manual_required: u32,
    pub abandoned: u32,
}

impl From<BatchView> for Batch {
    fn from(batch: BatchView) -> Batch {
        Batch {
            id: batch.batch,
            job: batch.job.to_string(),
            created_by: batch.created_by,
            created_at: batch.created_at,
            total: batch.total,
            pending: batch.pending,
            retrying: batch.retrying,
            running: batch.running,
            resolved: batch.resolved,
            manual_required: batch.manual_required,
            abandoned: batch.abandoned,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchWithItems {
    pub batch: Batch,
    /// In the order of their index.
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Processed {
    /// Items that waited and are due now.
    pub made_due: u64,
    /// Why no attempt of them starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    pub batch: Batch,
}
