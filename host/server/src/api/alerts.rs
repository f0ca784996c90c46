//! Alerts for people: lists and acknowledgements.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::id::AlertId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::alerts::AlertView;

use super::authentication::Actor;
use super::extract::{Body, Nothing, Params, Segments, limit};
use crate::http::ApiError;
use crate::raw_json::raw_or_text;
use crate::state::AppState;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/api/v1/alerts", get(list))
        .route("/api/v1/alerts/{id}/acknowledge", post(acknowledge))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only alerts that are not acknowledged.
    open: Option<bool>,
    limit: Option<u32>,
}

async fn list(
    State(state): State<AppState>,
    Params(filter): Params<Filter>,
) -> Result<Json<Alerts>, ApiError> {
    let alerts = state.store.alerts().list(filter.open.unwrap_or(false), limit(filter.limit)).await?;
    Ok(Json(Alerts { alerts: alerts.into_iter().map(Alert::from).collect() }))
}

async fn acknowledge(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    actor: Actor,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Alert>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no alert {id:?}"));
    let alert: AlertId = id.parse().map_err(|_| unknown())?;
    let now = state.clock.now();
    let alert = state.store.alerts().acknowledge(alert, &actor.0, now).await?.ok_or_else(unknown)?;
    Ok(Json(alert.into()))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alert {
    pub id: String,
    pub job: String,
    pub kind: String,
    pub key: String,
    pub severity: String,
    pub message: String,
    /// Additional data of the job, or null.
    pub metadata: Box<RawValue>,
    /// How often it was raised before it was acknowledged.
    pub times: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
}

impl From<AlertView> for Alert {
    fn from(found: AlertView) -> Alert {
        let AlertView { alert, .. } = found;
        Alert {
            id: found.id.to_string(),
            job: found.job.to_string(),
            kind: alert.kind,
            key: alert.key,
            severity: alert.severity.to_string(),
            message: alert.message,
            // A plugin may have written invalid JSON: it is shown as a text.
            metadata: if alert.metadata.is_empty() {
                RawValue::NULL.to_owned()
            } else {
                raw_or_text(&alert.metadata)
            },
            times: found.times,
            first_at: found.first_at,
            last_at: found.last_at,
            acknowledged_at: found.acknowledged_at,
            acknowledged_by: found.acknowledged_by,
        }
    }
}
