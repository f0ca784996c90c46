//! The audit trail.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::AppState;
use super::error::ApiError;
use super::extract::{Most, Params};
use super::types::{Audit, AuditEntry};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/audit", get(list))
}

async fn list(State(state): State<AppState>, Params(most): Params<Most>) -> Result<Json<Audit>, ApiError> {
    let entries = state.store.audit(most.limit()).await?;
    let audit = entries.into_iter().map(|entry| AuditEntry {
        at: entry.at,
        actor: entry.actor,
        action: entry.action,
        job: entry.job,
        subject: entry.subject,
        detail: entry.detail,
    });
    Ok(Json(Audit { audit: audit.collect() }))
}
