//! The audit trail.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::audit::AuditView;

use super::extract::{Most, Params};
use crate::http::ApiError;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/audit", get(list))
}

async fn list(State(state): State<AppState>, Params(most): Params<Most>) -> Result<Json<Audit>, ApiError> {
    let entries = state.store.audit().list(most.limit()).await?;
    Ok(Json(Audit { audit: entries.into_iter().map(AuditEntry::from).collect() }))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Audit {
    pub audit: Vec<AuditEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub job: Option<String>,
    pub subject: String,
    pub detail: String,
}

impl From<AuditView> for AuditEntry {
    fn from(entry: AuditView) -> AuditEntry {
        AuditEntry {
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            job: entry.job,
            subject: entry.subject,
            detail: entry.detail,
        }
    }
}
