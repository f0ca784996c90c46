//! The simulated proxy. The stock producer uses one of its exits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::All;
use super::door::Door;
use super::mood::Mood;

const EXITS: usize = 8;

#[derive(Default)]
pub struct Proxy {
    pub door: Door,
}

pub async fn exit(State(all): State<Arc<All>>) -> Response {
    let door = &all.proxy.door;
    match door.enter().await {
        Err(answer) => answer,
        Ok(call) if call.mood == Mood::Fails => (StatusCode::BAD_GATEWAY, "no exit is free").into_response(),
        Ok(call) => {
            let exit = json!({ "exit": format!("exit-{}", door.calls() % EXITS + 1) });
            call.answer(Json(exit).into_response())
        }
    }
}
