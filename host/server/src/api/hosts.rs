//! Hosts that share the store.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::AppState;
use super::error::ApiError;
use super::extract::{Most, Params};
use super::types::{Host, Hosts};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/hosts", get(list))
}

async fn list(State(state): State<AppState>, Params(most): Params<Most>) -> Result<Json<Hosts>, ApiError> {
    let this = state.engine.host_id();
    let hosts = state.store.hosts(most.limit()).await?;
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
