//! The `Idempotency-Key` header: a request that changes data and has a key can be sent again, and is carried
//! out once. Source: draft-ietf-httpapi-idempotency-key-header-07.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use store::answers::{Keyed, Once, StoredResponse};

use super::authentication::Actor;
use super::component::is_component;
use super::extract::unreadable;
use crate::http::{ApiError, has_lines};
use crate::state::AppState;

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks a stored response.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY_CHARS_MAX: usize = 255;
/// Largest response that is stored.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Middleware for every request, after authentication. Components have their own limit on the body, so
/// handlers of components call [`carry_out`] themselves.
pub async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || is_component(request.headers()) {
        return next.run(request).await;
    }
    if has_lines(request.headers()) {
        return match request.headers().contains_key(KEY) {
            true => no_key_of_lines().into_response(),
            false => next.run(request).await,
        };
    }
    let key = match key_of(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(key)) => key,
        Err(error) => return error.into_response(),
    };
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &state).await {
        Ok(body) => body,
        Err(rejection) => return unreadable(rejection).into_response(),
    };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let sha256 = sha256(&[parts.method.as_str(), target], &body);
    let actor = parts.extensions.get().cloned().unwrap_or_else(Actor::local);
    let work = next.run(Request::from_parts(parts, Body::from(body)));
    let keyed = Keyed { actor: &actor.0, key: &key, sha256: &sha256 };
    carry_out(&state, keyed, work).await
}

/// A stream is many transactions, so no single one could store its answer.
fn no_key_of_lines() -> ApiError {
    let detail = "idempotency-key: a stream of items takes none, because it is written in portions. Send it without a \
        key: each item is known by its own";
    ApiError::new(StatusCode::BAD_REQUEST, "bad-idempotency-key", detail)
}

/// Carries out a request, or returns the response to the same request before.
pub async fn carry_out(state: &AppState, keyed: Keyed<'_>, work: impl Future<Output = Response>) -> Response {
    let mut fresh = None;
    let work = async {
        let (parts, body) = work.await.into_parts();
        let (parts, body) = match to_bytes(body, ANSWER_BYTES_MAX).await {
            Ok(body) => (parts, body),
            Err(error) => {
                tracing::error!(%error, "an answer is too large to be remembered; nothing was changed");
                let detail = "the answer is too large to be remembered: send the request without a key";
                let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
                (error.into_response().into_parts().0, Bytes::new())
            }
        };
        let location = parts.headers.get(header::LOCATION);
        let answer = StoredResponse {
            status: parts.status.as_u16(),
            location: location.and_then(|value| value.to_str().ok()).map(str::to_owned),
            body: body.to_vec(),
        };
        fresh = Some((parts, body));
        answer
    };
    match state.store.answers().once(keyed, state.clock.now(), work).await {
        Ok(Once::Now(answer)) => match fresh {
            Some((parts, body)) => Response::from_parts(parts, Body::from(body)),
            None => replay(answer),
        },
        Ok(Once::Before(answer)) => replay(answer),
        Ok(Once::Other) => {
            let detail = "this idempotency key was used for another request: use a new one for each request";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail).into_response()
        }
        Ok(Once::Running) => {
            let detail = "the same request is being carried out: send it again in a moment for its answer";
            let error = ApiError::new(StatusCode::CONFLICT, "request-in-progress", detail);
            ([(header::RETRY_AFTER, "1")], error).into_response()
        }
        Err(error) => ApiError::from(error).into_response(),
    }
}

fn replay(answer: StoredResponse) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = [(header::CONTENT_TYPE, "application/json"), (REPLAYED, "true")];
    let mut response = (status, headers, answer.body).into_response();
    if let Some(location) = answer.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// SHA-256 over all parts of a request, in hexadecimal. Each part is preceded by its length.
pub fn sha256(head: &[&str], body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for part in head.iter().map(|part| part.as_bytes()).chain([body]) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key, if there is one: a quoted string, as the draft requires, or bare, as many clients send it.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let key = text.and_then(|text| match text.strip_prefix('"') {
        Some(rest) => unquoted(rest),
        None => Some(text.to_owned()),
    });
    let fits = |key: &String| !key.trim().is_empty() && key.len() <= KEY_CHARS_MAX;
    key.filter(fits).map(Some).ok_or_else(|| {
        let detail = format!(
            "idempotency-key: send one quoted string of 1 to {KEY_CHARS_MAX} visible ASCII characters, like \"8e03978e\""
        );
        ApiError::new(StatusCode::BAD_REQUEST, "bad-idempotency-key", detail)
    })
}

/// The content of a quoted string, after its opening quote.
fn unquoted(text: &str) -> Option<String> {
    let (mut key, mut chars) = (String::new(), text.chars());
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(key),
            '\\' => key.push(chars.next().filter(|c| ['"', '\\'].contains(c))?),
            c => key.push(c),
        }
    }
}
