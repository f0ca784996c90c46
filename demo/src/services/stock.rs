//! The simulated stock producer: makes units for a campaign, once for each idempotency key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::All;
use super::door::{Door, answer};
use super::mood::Mood;
use super::refused;

#[derive(Default)]
pub struct Stock {
    pub door: Door,
    moods: Mutex<BTreeMap<i64, Mood>>,
    made: Mutex<BTreeMap<String, Made>>,
}

/// The batch made for one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    pub batch_id: String,
    pub campaign_id: i64,
    pub units: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replenish {
    campaign_id: i64,
    units: i64,
    exit: String,
}

impl Stock {
    /// All batches, sorted by their key.
    pub fn made(&self) -> Vec<Made> {
        lock(&self.made).values().cloned().collect()
    }

    /// Sets one campaign's own mood, in addition to the service's.
    pub fn set_mood_of(&self, campaign_id: i64, mood: Mood) {
        lock(&self.moods).insert(campaign_id, mood);
    }

    fn mood_of(&self, campaign_id: i64) -> Mood {
        lock(&self.moods).get(&campaign_id).copied().unwrap_or_default()
    }

    /// A repeated call with the same key makes nothing new.
    fn make(&self, key: &str, asked: &Replenish) -> Made {
        let mut made = lock(&self.made);
        let number = made.len() + 1;
        let new = || Made {
            batch_id: format!("batch-{number:05}"),
            campaign_id: asked.campaign_id,
            units: asked.units,
        };
        made.entry(key.to_owned()).or_insert_with(new).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub async fn replenish(
    State(all): State<Arc<All>>,
    headers: HeaderMap,
    Json(asked): Json<Replenish>,
) -> Response {
    let call = match all.stock.door.enter().await {
        Ok(call) => call,
        Err(answer) => return answer,
    };
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return refused("the request has no idempotency-key".to_owned());
    };
    if asked.units < 1 || asked.exit.is_empty() {
        return refused("units must be above 0, and exit one of the proxy's".to_owned());
    }
    let own = all.stock.mood_of(asked.campaign_id);
    if let Some(answer) = answer(own) {
        // The batch was made; only the response is lost.
        if own == Mood::Closes {
            all.stock.make(key, &asked);
        }
        return answer;
    }
    if [call.mood, own].contains(&Mood::Fails) {
        let error = format!("no material for campaign {}", asked.campaign_id);
        return Json(json!({ "success": false, "error": error })).into_response();
    }
    let made = all.stock.make(key, &asked);
    let answer = json!({ "success": true, "batch_id": made.batch_id, "units": made.units });
    call.answer(Json(answer).into_response())
}

pub async fn set_mood_of(State(all): State<Arc<All>>, Path(campaign): Path<i64>, word: String) -> Response {
    match word.trim().parse() {
        Ok(mood) => {
            all.stock.set_mood_of(campaign, mood);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => refused(why),
    }
}
