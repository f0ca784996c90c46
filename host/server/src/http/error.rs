//! Error responses, as `application/problem+json` with a stable code.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use engine::log_throttle::LogThrottle;
use serde::{Deserialize, Serialize};
use store::StoreError;

use super::limits::BODY_BYTES_MAX;

/// Seconds after which a client may retry while the store is unavailable.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

static UNAVAILABLE: LogThrottle = LogThrottle::new();

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// The state that conflicts with the requested change.
    state: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError { status, code, detail: detail.into(), state: None }
    }

    pub fn bad_query(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-query", detail)
    }

    pub fn bad_body(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-body", detail)
    }

    pub fn too_large() -> ApiError {
        let detail = format!("a body has at most {} bytes", BODY_BYTES_MAX);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub fn not_found(what: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    /// The same error with a further sentence for people.
    pub fn with_more(self, more: &str) -> ApiError {
        ApiError { detail: format!("{}; {more}", self.detail), ..self }
    }

    pub fn with_state(self, state: &str) -> ApiError {
        ApiError { state: Some(state.to_owned()), ..self }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let text = error.to_string();
        match error {
            StoreError::Unavailable(_) => {
                if let Some(unsaid) = UNAVAILABLE.may() {
                    tracing::warn!(error = text, unsaid, "a request found the store unavailable");
                }
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", text)
            }
            StoreError::Busy(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store-busy", text),
            StoreError::NotFound(_) => ApiError::not_found(text),
            StoreError::Conflict(_) | StoreError::Raced(_) => {
                ApiError::new(StatusCode::CONFLICT, "conflict", text)
            }
            StoreError::Refused(_) => ApiError::new(StatusCode::BAD_REQUEST, "bad-text", text),
            StoreError::TooLarge(_) => ApiError::new(StatusCode::BAD_REQUEST, "answer-too-large", text),
            StoreError::Unusable(_) | StoreError::Corrupt(_) => {
                tracing::error!(error = text, "a request failed");
                let detail = "the host could not answer; its log says why";
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:tidemill:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
            state: self.state,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

pub async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

/// The router adds the `Allow` header.
pub async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not answer to {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}
