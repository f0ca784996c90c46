//! Hosts that share the store.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::extract::{Most, Params};
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/hosts", get(list))
}

async fn list(State(state): State<AppState>, Params(most): Params<Most>) -> Result<Json<Hosts>, ApiError> {
    let this = state.engine.host_id();
    let hosts = state.store.hosts().list(most.limit()).await?;
    let hosts = hosts.into_iter().map(|host| Host {
        this: host.id == this,
        id: host.id.to_string(),
        name: host.name,
        incarnation: host.incarnation.map(|incarnation| incarnation.to_string()),
        started_at: host.started_at,
        heartbeat_at: host.heartbeat_at,
        stopped_at: host.stopped_at,
    });
    Ok(Json(Hosts { hosts: hosts.collect() }))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hosts {
    pub hosts: Vec<Host>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub id: String,
    pub name: String,
    /// The host that answered.
    pub this: bool,
    /// The id of its latest start.
    pub incarnation: Option<String>,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}
