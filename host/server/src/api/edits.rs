//! Settings of jobs that are changed at run time: stored, in effect on all hosts within a second
//! or two, until cleared.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::jobs::edits::Edit;

use super::authentication::Actor;
use super::extract::{Body, Segments};
use super::filters::known;
use crate::config::edits::FIXED;
use crate::http::ApiError;
use crate::raw_json::raw_or_text;
use crate::state::AppState;

const KEY_BYTES_MAX: usize = 128;
const KEYS_MAX: usize = 64;

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/jobs/{name}/edits", get(list).post(edit))
}

/// Keys as in the job's section of the file, like `retry.base`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    set: BTreeMap<String, Box<RawValue>>,
    /// `*` clears all keys.
    #[serde(default)]
    clear: Vec<String>,
}

async fn list(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
) -> Result<Json<Edits>, ApiError> {
    let job = known(&state, &name)?;
    Ok(Json(of(job.name.as_str(), state.store.jobs().edits().await?)))
}

/// Checked together with the whole configuration in effect. A single mistake rejects the request.
async fn edit(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    actor: Actor,
    Body(change): Body<Change>,
) -> Result<Json<Edits>, ApiError> {
    let job = known(&state, &name)?;
    let stored = state.store.jobs().edits().await?;
    let changes = changes(change, job.name.as_str(), &stored)?;
    let (now, by) = (state.clock.now(), &actor.0);
    let gone =
        |edit: &&Edit| edit.job == job.name.as_str() && changes.iter().any(|(key, _)| *key == edit.key);
    let mut edits: Vec<Edit> = stored.iter().filter(|edit| !gone(edit)).cloned().collect();
    edits.extend(changes.iter().filter_map(|(key, value)| {
        let (job, key, value) = (job.name.to_string(), key.clone(), value.clone()?);
        Some(Edit { job, key, value, since: now, by: by.clone() })
    }));
    let source = state.config.source.clone();
    let checked = tokio::task::spawn_blocking(move || source.load(&edits, now)).await;
    let checked = checked.map_err(|e| ApiError::bad_body(format!("the check did not end: {e}")))?;
    checked.map_err(|mistakes| {
        let detail = format!("nothing changes: {mistakes}");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-setting", detail)
    })?;
    state.store.jobs().edit(&job.name, &changes, by, now).await?;
    state.config.edited.notify_one();
    Ok(Json(of(job.name.as_str(), state.store.jobs().edits().await?)))
}

fn of(job: &str, edits: Vec<Edit>) -> Edits {
    let own = edits.into_iter().filter(|edit| edit.job == job);
    Edits { edits: own.map(Setting::from).collect() }
}

/// Converts the keys to set and to clear to the form of the store.
fn changes(change: Change, job: &str, stored: &[Edit]) -> Result<Vec<(String, Option<String>)>, ApiError> {
    let mut changes = BTreeMap::new();
    for key in change.clear {
        match key.as_str() {
            "*" => {
                let own = stored.iter().filter(|edit| edit.job == job);
                changes.extend(own.map(|edit| (edit.key.clone(), None)));
            }
            _ => drop(changes.insert(key, None)),
        }
    }
    for (key, value) in change.set {
        let first = key.split('.').next().unwrap_or_default();
        if FIXED.contains(&first) {
            let why = "it can be set only in the file, because it decides what a plugin may access";
            return Err(ApiError::bad_body(format!("{key:?} cannot be set here: {why}")));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX || key.split('.').any(str::is_empty) {
            return Err(ApiError::bad_body(format!("{key:?} is no key: use one like \"retry.base\"")));
        }
        changes.insert(key, Some(value.get().to_owned()));
    }
    if changes.len() > KEYS_MAX {
        return Err(ApiError::bad_body(format!("more than {KEYS_MAX} keys at once")));
    }
    if changes.is_empty() {
        let remedy = "name keys, like {\"set\": {\"concurrency\": 8}} or {\"clear\": [\"*\"]}";
        return Err(ApiError::bad_body(format!("nothing is set or cleared: {remedy}")));
    }
    Ok(changes.into_iter().collect())
}

/// Settings made over the API. They override the file until they are cleared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edits {
    pub edits: Vec<Setting>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// As in the job's section of the file, like `retry.base`.
    pub key: String,
    pub value: Box<RawValue>,
    pub since: Timestamp,
    pub by: String,
}

impl From<Edit> for Setting {
    fn from(edit: Edit) -> Setting {
        Setting { value: raw_or_text(&edit.value), key: edit.key, since: edit.since, by: edit.by }
    }
}
