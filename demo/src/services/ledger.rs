//! The simulated ledger. It receives each posting at least once and applies it once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::All;
use super::door::{Door, not_taken};
use super::mood::Mood;
use super::refused;

#[derive(Default)]
pub struct Ledger {
    pub door: Door,
    applied: Mutex<BTreeMap<String, Value>>,
}

impl Ledger {
    /// Postings by the id of their event.
    pub fn applied(&self) -> BTreeMap<String, Value> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub async fn posting(State(all): State<Arc<All>>, Json(event): Json<Value>) -> Response {
    let call = match all.ledger.door.enter().await {
        Ok(call) => call,
        Err(answer) => return not_taken(answer),
    };
    if call.mood == Mood::Fails {
        return refused("the books are closed".to_owned());
    }
    let Some(id) = event["id"].as_str() else {
        return refused("the event has no id".to_owned());
    };
    let mut applied = all.ledger.applied.lock().unwrap_or_else(PoisonError::into_inner);
    applied.entry(id.to_owned()).or_insert_with(|| event["payload"].clone());
    call.taken(StatusCode::NO_CONTENT)
}
