//! Named locks: those that jobs hold, and those that an external client takes for a limited time.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::lock::{LOCK_TIME_MAX, check_name};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::attempts::locks::{Lock as Held, LockResult};

use super::authentication::Actor;
use super::extract::{Body, Params, Segments, limit};
use crate::config::text;
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/locks", get(list))
        .route("/api/v1/locks/{name}/take", post(take))
        .route("/api/v1/locks/{name}/renew", post(renew))
        .route("/api/v1/locks/{name}/release", post(release))
}

const TTL_MIN: SignedDuration = SignedDuration::from_secs(1);
const TTL_MAX: SignedDuration = LOCK_TIME_MAX;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    /// The list continues after this name.
    after: Option<String>,
    limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    ttl: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    token: i64,
    ttl: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    /// Without a token, the current holder loses the lock.
    token: Option<i64>,
}

async fn list(State(state): State<AppState>, Params(query): Params<After>) -> Result<Json<Locks>, ApiError> {
    let after = query.after.unwrap_or_default();
    let held = state.store.locks().list(&after, state.clock.now(), limit(query.limit)).await?;
    Ok(Json(Locks { locks: held.into_iter().map(Lock::from).collect() }))
}

async fn take(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(body): Body<Take>,
) -> Result<Json<Lock>, ApiError> {
    check_name(&name).map_err(|why| ApiError::bad_body(format!("{name:?} is not a lock's name: {why}")))?;
    let now = state.clock.now();
    let until = end(&body.ttl, now)?;
    match state.store.locks().take(&name, &actor.0, until, now).await? {
        LockResult::Token(token) => {
            Ok(Json(Lock { name, token, holder: actor.0, taken_at: now, until: Some(until) }))
        }
        LockResult::Held(lock) => {
            let until = match lock.until {
                Some(until) => format!("until {until:.0}"),
                None => "until that attempt ends".to_owned(),
            };
            Err(held(format!("{} holds the lock {name:?} {until}", lock.holder)))
        }
    }
}

async fn renew(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(body): Body<Renew>,
) -> Result<Json<Lock>, ApiError> {
    let now = state.clock.now();
    let until = end(&body.ttl, now)?;
    let renewed = state.store.locks().renew(&name, body.token, until, &actor.0, now).await?;
    match state.store.locks().get(&name, now).await?.filter(|_| renewed) {
        Some(lock) => Ok(Json(lock.into())),
        None => Err(lost(&name, Some(body.token))),
    }
}

async fn release(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(body): Body<Release>,
) -> Result<Json<Locks>, ApiError> {
    let now = state.clock.now();
    if state.store.locks().release(&name, body.token, &actor.0, now).await? {
        return Ok(Json(Locks { locks: Vec::new() }));
    }
    match state.store.locks().get(&name, now).await? {
        Some(lock) if lock.until.is_none() => {
            let why = "it cannot be released before the attempt's work is committed";
            Err(held(format!("{} holds the lock {name:?} until that attempt ends: {why}", lock.holder)))
        }
        _ => Err(lost(&name, body.token)),
    }
}

fn end(ttl: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let bad = |what: String| ApiError::bad_body(format!("ttl: {what}; use \"1s\" to \"24h\""));
    let ttl = text::duration(ttl).map_err(bad)?;
    if ttl < TTL_MIN || ttl > TTL_MAX {
        return Err(bad(format!("{ttl:#} is too short or too long")));
    }
    Ok(now.checked_add(ttl).unwrap_or(Timestamp::MAX))
}

fn held(detail: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "lock-held", detail)
}

fn lost(name: &str, token: Option<i64>) -> ApiError {
    let under = token.map_or(String::new(), |token| format!(" under the token {token}"));
    let detail = format!("the lock {name:?} is no longer held{under}: take it again");
    ApiError::new(StatusCode::CONFLICT, "lock-lost", detail)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Locks {
    pub locks: Vec<Lock>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    pub name: String,
    /// Higher than all earlier tokens of this lock.
    pub token: i64,
    pub holder: String,
    pub taken_at: Timestamp,
    /// `None` for an attempt's lock: it ends with the attempt.
    pub until: Option<Timestamp>,
}

impl From<Held> for Lock {
    fn from(lock: Held) -> Lock {
        Lock {
            name: lock.name,
            token: lock.token,
            holder: lock.holder,
            taken_at: lock.taken_at,
            until: lock.until,
        }
    }
}
