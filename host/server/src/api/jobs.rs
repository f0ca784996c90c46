//! Jobs: their configuration, whether they can run, and manual starts.

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::effect::NewItem;
use domain::item::State as ItemState;
use domain::job::JobSpec;
use domain::runner::Readiness;
use domain::text::check_key;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::items::enqueue::Added;
use store::items::{ItemCount, ItemView};
use store::jobs::pauses::Pauses;

use super::authentication::Actor;
use super::extract::{Body, Segments};
use super::filters::known;
use super::items::Item;
use super::{bulk, waits};
use crate::http::{ApiError, has_lines};
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/jobs", get(list))
        .route("/api/v1/jobs/{name}", post(trigger))
        .route("/api/v1/jobs/{name}/items", post(add))
}

async fn list(State(state): State<AppState>) -> Result<Json<Jobs>, ApiError> {
    let counts = state.store.items().counts().await?;
    let pauses = state.store.jobs().pauses().await?;
    let jobs = state.engine.jobs();
    Ok(Json(Jobs { jobs: jobs.iter().map(|job| view(&state, job, &counts, &pauses)).collect() }))
}

fn view(state: &AppState, job: &JobSpec, counts: &[ItemCount], pauses: &Pauses) -> Job {
    let (digest, blocked) = match state.engine.readiness(job) {
        Readiness::Ready(digest) => (Some(digest.to_string()), None),
        Readiness::Blocked(why) => (None, Some(why)),
    };
    let own = counts.iter().filter(|count| count.job == job.name);
    Job {
        name: job.name.to_string(),
        plugin: job.plugin.to_string(),
        schedule: job.schedule.to_string(),
        next_due_at: job.next_after(state.clock.now()),
        paused: pauses.of(job.name.as_str()).map(|pause| Pause { since: pause.since, by: pause.by.clone() }),
        digest,
        blocked,
        concurrency: job.flow.concurrency,
        items_per_run_max: job.flow.items_per_run_max,
        items: own.map(|count| Count { state: count.state.to_owned(), items: count.items }).collect(),
    }
}

async fn trigger(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(Start { mode: None | Some(Mode::All), params }): Body<Start>,
) -> Result<Response, ApiError> {
    let job = known(&state, &name)?;
    let params = params.as_ref().map(|params| params.get());
    if params.is_some_and(|params| params.len() > job.limits.payload_bytes) {
        return Err(ApiError::bad_body(format!("params: at most {} bytes", job.limits.payload_bytes)));
    }
    let run_id = state.engine.trigger(&job.name, params, &actor.0).await?.to_string();
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{run_id}"));
    let waits = waits::of(&state, &name).await?;
    let mut response = (StatusCode::CREATED, Json(Triggered { run_id, waits })).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Adds an item as if a discovery had found it, or a stream of items. This is also the way to recover a single case
/// manually.
async fn add(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    request: Request,
) -> Result<Response, ApiError> {
    let job = known(&state, &name)?;
    if has_lines(request.headers()) {
        let body = request.into_body();
        return bulk::add(&state, &job, &actor, body).await.map(|added| Json(added).into_response());
    }
    let Body(item) = Body::from_request(request, &state).await?;
    add_item(&state, &job, &actor, item).await.map(IntoResponse::into_response)
}

async fn add_item(
    state: &AppState,
    job: &JobSpec,
    actor: &Actor,
    AddItem { key, payload }: AddItem,
) -> Result<(StatusCode, Json<AddedItem>), ApiError> {
    check_item(job, &key, &payload).map_err(ApiError::bad_body)?;
    let item = NewItem { job: job.name.clone(), key, payload };
    let (added, view) = state.store.items().add(&item, &actor.0, state.clock.now()).await?;
    let status = if added == Added::Kept { StatusCode::OK } else { StatusCode::CREATED };
    let (outcome, detail) = what_became(added, &view, &item.payload);
    let waits = match view.state {
        ItemState::Scheduled => waits::of(state, job.name.as_str()).await?,
        _ => None,
    };
    Ok((status, Json(AddedItem { outcome: outcome.to_owned(), detail, waits, item: view.into() })))
}

/// Why an item may not be added.
pub fn check_item(job: &JobSpec, key: &str, payload: &str) -> Result<(), String> {
    let limit = job.limits.payload_bytes;
    check_key(key).map_err(|why| format!("key: {why}"))?;
    if payload.len() > limit || payload.contains('\0') {
        return Err(format!("payload: at most {limit} bytes, without a zero byte"));
    }
    Ok(())
}

fn what_became(added: Added, item: &ItemView, sent: &str) -> (&'static str, String) {
    let (job, key) = (&item.job, &item.key);
    match added {
        Added::New => ("added", format!("{key:?} is added to {job}")),
        Added::Reopened => {
            ("reopened", format!("{key:?} of {job} was resolved: it starts again with the payload sent"))
        }
        Added::Kept => {
            let payload = match item.payload == sent {
                true => "its payload is the one sent",
                false => "it keeps its payload, and the one sent was dropped",
            };
            ("kept", format!("{key:?} of {job} is {} already: {payload}", item.shown))
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Jobs {
    pub jobs: Vec<Job>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub plugin: String,
    pub schedule: String,
    pub next_due_at: Option<Timestamp>,
    pub paused: Option<Pause>,
    /// The version that new attempts run on.
    pub digest: Option<String>,
    /// Why no attempt can start now, if so.
    pub blocked: Option<String>,
    pub concurrency: u32,
    pub items_per_run_max: Option<u32>,
    /// Items by state.
    pub items: Vec<Count>,
}

/// When a job was paused, and by whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    pub by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Count {
    pub state: String,
    pub items: u32,
}

/// The body that starts a run. The only mode is all due items.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Passed to the plugin's `discover` byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    All,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Triggered {
    pub run_id: String,
    /// Why the run does not start yet, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// The body that adds an item manually.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddItem {
    pub key: String,
    #[serde(default)]
    pub payload: String,
}

/// The response to an item that was added manually.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedItem {
    /// `added`, `reopened` (it was resolved and starts again with the new payload), or `kept` (it is open or
    /// waits for a person: the new payload was dropped).
    pub outcome: String,
    /// The same for people.
    pub detail: String,
    /// Why no attempt of it starts now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The item as it is now.
    #[serde(flatten)]
    pub item: Item,
}
