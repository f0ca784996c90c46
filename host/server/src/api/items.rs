//! Items, their attempts, and the decisions of people on them.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::failure::ErrorInfo;
use domain::item::ManualDecision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::items::{AttemptView, DecisionRequest, ItemView};

use super::authentication::Actor;
use super::extract::{Body, Params, Segments, limit, text};
use super::{filters, waits};
use crate::http::ApiError;
use crate::state::AppState;

/// Attempts that are shown with their item.
const ATTEMPTS_SHOWN: u32 = 100;
/// Maximum length of a person's note.
const NOTES_BYTES_MAX: usize = 4 << 10;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/items", get(list))
        .route("/api/v1/items/{job}/{key}", get(one))
        .route("/api/v1/items/{job}/{key}/{decision}", post(decide))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    job: Option<String>,
    state: Option<String>,
    limit: Option<u32>,
}

async fn list(
    State(state): State<AppState>,
    Params(filter): Params<Filter>,
) -> Result<Json<Items>, ApiError> {
    let wanted = filter.state.as_deref().map(filters::state).transpose()?;
    if let Some(job) = &filter.job {
        filters::check_job(&state, job).await?;
    }
    let items = state.store.items().list_shown(filter.job.as_deref(), wanted, limit(filter.limit)).await?;
    Ok(Json(Items { items: items.into_iter().map(Item::from).collect() }))
}

async fn one(
    State(state): State<AppState>,
    Segments((job, key)): Segments<(String, String)>,
) -> Result<Json<ItemWithAttempts>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no item {key:?} of job {job:?}"));
    filters::check_job(&state, &job).await?;
    let item = state.store.items().get(&job, &key).await?.ok_or_else(unknown)?;
    let attempts = state.store.items().attempts(&job, &key, ATTEMPTS_SHOWN).await?;
    let attempts = attempts.into_iter().map(Attempt::from).collect();
    Ok(Json(ItemWithAttempts { item: item.into(), attempts }))
}

async fn decide(
    State(state): State<AppState>,
    Segments((job, key, decision)): Segments<(String, String, String)>,
    actor: Actor,
    Body(body): Body<Decision>,
) -> Result<Json<DecidedItem>, ApiError> {
    let decision = match decision.as_str() {
        "retry" => ManualDecision::Retry,
        "resolve" => ManualDecision::Resolve,
        "manual" => ManualDecision::Manual,
        "abandon" => ManualDecision::Abandon,
        other => {
            let detail = format!("{other:?} is no decision: use retry, resolve, manual or abandon");
            return Err(ApiError::not_found(detail));
        }
    };
    if body.notes.as_ref().is_some_and(|notes| notes.len() > NOTES_BYTES_MAX) {
        return Err(ApiError::bad_body(format!("notes: at most {NOTES_BYTES_MAX} bytes")));
    }
    filters::check_job(&state, &job).await?;
    let now = state.clock.now();
    let notes = body.notes.as_deref().map(|notes| text("notes", notes)).transpose()?;
    let notes = notes.as_deref();
    let decided =
        DecisionRequest { version: body.version, ..DecisionRequest::new(decision, notes, &actor.0) };
    match state.store.items().decide(&job, &key, decided, now).await {
        Ok(item) => {
            let waits = match decision {
                ManualDecision::Retry => waits::of(&state, &job).await?,
                ManualDecision::Resolve | ManualDecision::Manual | ManualDecision::Abandon => None,
            };
            Ok(Json(DecidedItem { item: item.into(), waits }))
        }
        Err(error @ StoreError::Conflict(_)) => {
            let current = state.store.items().get(&job, &key).await?;
            let error = ApiError::from(error);
            Err(match current {
                Some(item) => error.with_state(item.state.as_str()),
                None => error,
            })
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Items {
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    pub id: String,
    pub job: String,
    pub key: String,
    pub payload: String,
    pub state: String,
    /// `pending`, `retrying`, or the state.
    pub shown: String,
    pub attempts: u32,
    pub crashes: u32,
    pub due_at: Timestamp,
    pub run_id: Option<String>,
    pub host: Option<String>,
    pub note: Option<String>,
    pub error: Option<Error>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_batch: Option<InBatch>,
    pub resolved_at: Option<Timestamp>,
    /// The person who resolved it, if a person did.
    pub resolved_by: Option<String>,
    /// Grows with each change.
    pub version: i64,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl From<ItemView> for Item {
    fn from(item: ItemView) -> Item {
        Item {
            id: item.id.to_string(),
            job: item.job.to_string(),
            key: item.key,
            payload: item.payload,
            state: item.state.to_string(),
            shown: item.shown.to_owned(),
            attempts: item.attempts,
            crashes: item.crashes,
            due_at: item.due_at,
            run_id: item.run_id.map(|id| id.to_string()),
            host: item.host.map(|id| id.to_string()),
            note: item.note,
            error: item.error.map(Into::into),
            in_batch: item.in_batch.map(Into::into),
            resolved_at: item.resolved_at,
            resolved_by: item.resolved_by,
            version: item.version,
            first_attempt_at: item.first_attempt_at,
            last_attempt_at: item.last_attempt_at,
            created_at: item.created_at,
            updated_at: item.updated_at,
        }
    }
}

/// An item's reference to its batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InBatch {
    pub id: String,
    pub index: u32,
    pub operation: String,
    pub created_by: String,
    pub max_attempts: Option<u32>,
}

impl From<domain::batch::InBatch> for InBatch {
    fn from(found: domain::batch::InBatch) -> InBatch {
        InBatch {
            id: found.batch,
            index: found.index,
            operation: found.operation,
            created_by: found.created_by,
            max_attempts: found.max_attempts,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    pub code: String,
    pub message: String,
}

impl From<ErrorInfo> for Error {
    fn from(error: ErrorInfo) -> Error {
        Error { code: error.code, message: error.message }
    }
}

/// The response to a decision on an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DecidedItem {
    #[serde(flatten)]
    pub item: Item,
    /// Why no attempt of it starts now although it is to be retried, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemWithAttempts {
    pub item: Item,
    /// The newest first.
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub epoch: i64,
    pub number: u32,
    pub verdict: String,
    pub error: Option<Error>,
    pub note: Option<String>,
    pub log: String,
    pub host: String,
    pub digest: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// Time in the sandbox, and CPU time of the guest's own code in it, in microseconds.
    pub wall_us: i64,
    pub cpu_us: i64,
    pub memory_bytes_max: i64,
    /// Calls that reached a database or a service, and the bytes sent and received.
    pub host_calls: i64,
    pub host_bytes: i64,
}

impl From<AttemptView> for Attempt {
    fn from(attempt: AttemptView) -> Attempt {
        Attempt {
            epoch: attempt.epoch,
            number: attempt.number,
            verdict: attempt.verdict,
            error: attempt.error.map(Into::into),
            note: attempt.note,
            log: attempt.log,
            host: attempt.host.to_string(),
            digest: attempt.digest,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            wall_us: attempt.wall_us,
            cpu_us: attempt.cpu_us,
            memory_bytes_max: attempt.memory_bytes_max,
            host_calls: attempt.host_calls,
            host_bytes: attempt.host_bytes,
        }
    }
}

/// The body of a decision on an item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Refused if the item changed since this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}
