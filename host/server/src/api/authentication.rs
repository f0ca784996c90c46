//! Authentication. As soon as a token exists, every request that changes data needs one.

use crate::http::ApiError;
use crate::state::AppState;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// The actor of changes while there are no tokens: a user of this machine.
const LOCAL: &str = "local";

/// The name of the request's token.
#[derive(Debug, Clone)]
pub struct Actor(pub String);

impl Actor {
    pub fn local() -> Actor {
        Actor(LOCAL.to_owned())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Actor::local))
    }
}

/// Middleware that authenticates requests that change data, after the `guard`.
pub async fn check(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    match identify(&state, request.headers()).await {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn identify(state: &AppState, headers: &HeaderMap) -> Result<Actor, ApiError> {
    let refused = |detail: &str| ApiError::new(StatusCode::UNAUTHORIZED, "token-required", detail);
    let header = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let token =
        header.map(|value| value.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")));
    match token {
        Some(Some((_, token))) => {
            let holder = state.store.tokens().holder(&hash(token.trim())).await?;
            holder
                .map(Actor)
                .ok_or_else(|| refused("the token is not known: add one with `tidemill token add`"))
        }
        Some(None) => Err(refused("send a token as `authorization: Bearer …`")),
        None if state.store.tokens().list().await?.is_empty() => Ok(Actor::local()),
        None => Err(refused(
            "a token is needed: send `authorization: Bearer …`; on the command line, set TIDEMILL_TOKEN",
        )),
    }
}

/// The stored form of a token. A token is as random as a key, so a plain hash is sufficient.
pub fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
