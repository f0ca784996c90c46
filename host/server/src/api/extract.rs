//! Extractors for query, path and body, with the API's own error texts and never a 5xx.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use domain::text::escape_lines;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::component::length;
use crate::http::{ApiError, BODY_BYTES_MAX};

/// Entries of a list: the default without `limit`, and the maximum.
pub const LIMIT_DEFAULT: u32 = 50;
pub const LIMIT_MAX: u32 = 500;

/// The query; its type refuses unknown and repeated names.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejection) => Err(ApiError::bad_query(reason(&rejection.body_text()))),
        }
    }
}

/// The variable parts of the path.
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Segments(segments)),
            Err(rejection) => Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-path", rejection.body_text())),
        }
    }
}

/// A JSON body; an empty body is an empty object. The content type must be JSON, because a page of another
/// site can send other types without a preflight request.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| {
            let kind = kind.to_str().unwrap_or_default();
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        let has_kind = kind.is_some();
        // Refused before the body is sent, if the client waits for `100 Continue`.
        if length(request.headers()).is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(ApiError::too_large());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        if !is_json && (has_kind || !bytes.is_empty()) {
            let detail = "send JSON, with content-type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        match Json::<T>::from_bytes(text) {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(ApiError::bad_body(reason(&rejection.body_text()))),
        }
    }
}

/// The framework's text without its introduction; the rest names the field.
fn reason(text: &str) -> &str {
    let introductions = [
        "Failed to deserialize query string: ",
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to parse the request body as JSON: ",
    ];
    introductions.iter().find_map(|intro| text.strip_prefix(intro)).unwrap_or(text)
}

pub fn unreadable(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large();
    }
    ApiError::bad_body(rejection.body_text())
}

/// The query of a list whose only parameter is its length.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Most {
    limit: Option<u32>,
}

impl Most {
    pub fn limit(&self) -> u32 {
        limit(self.limit)
    }
}

/// The number of entries of a list: the requested number, within bounds.
pub fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
}

/// A text for people in its stored form: hidden characters are made visible.
pub fn text(what: &str, text: &str) -> Result<String, ApiError> {
    match text.contains('\0') {
        true => Err(ApiError::bad_body(format!("{what}: a zero byte cannot be stored"))),
        false => Ok(escape_lines(text).into_owned()),
    }
}

/// A body without fields: absent, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
