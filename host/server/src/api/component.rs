//! A component as the body of a request, with its signature in a header.

use std::time::Duration;

use crate::http::{ApiError, COMPONENT_KIND};
use crate::state::AppState;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::OwnedSemaphorePermit;

/// The text of the file `NAME.wasm.minisig`, in base64.
pub const SIGNATURE: HeaderName = HeaderName::from_static("tidemill-signature");

/// Time limit for receiving a component: other uploads wait for this one.
const SENT_WITHIN: Duration = Duration::from_secs(30);

pub struct Component {
    pub bytes: Vec<u8>,
    pub signature: Option<String>,
    /// Released when the request is answered.
    pub permit: OwnedSemaphorePermit,
}

impl FromRequest<AppState> for Component {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &AppState) -> Result<Component, ApiError> {
        check_kind(request.headers())?;
        let signature = signature(request.headers())?;
        let bytes_max = state.sandbox.component_bytes_max();
        // Refused before the body is sent, if the client waits for `100 Continue`.
        if length(request.headers()).is_some_and(|length| length > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let permit = state.uploads.clone().try_acquire_owned().map_err(|_| {
            let busy = "another version is being tried on this host: ask again when that is done";
            ApiError::new(StatusCode::CONFLICT, "trial-running", busy)
        })?;
        DefaultBodyLimit::max(bytes_max).apply(&mut request);
        let read = tokio::time::timeout(SENT_WITHIN, Bytes::from_request(request, state)).await;
        let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the plugin came too slowly");
        let bytes = read.map_err(late)?.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(bytes_max),
            _ => ApiError::bad_body(rejection.body_text()),
        })?;
        Ok(Component { bytes: bytes.into(), signature, permit })
    }
}

pub fn is_component(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.eq_ignore_ascii_case(COMPONENT_KIND)
}

/// A page of another site can send other content types without a preflight request.
fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_component(headers) {
        return Ok(());
    }
    let detail = format!("send the component's bytes, with content-type: {COMPONENT_KIND}");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-wasm", detail))
}

fn signature(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(header) = headers.get(SIGNATURE) else { return Ok(None) };
    let decoded = BASE64_STANDARD.decode(header.as_bytes()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let bad = || ApiError::bad_body(format!("{SIGNATURE}: send the text of the .minisig file, in base64"));
    text.map(Some).ok_or_else(bad)
}

/// The length of a body, if the client declares it.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(bytes_max: usize) -> ApiError {
    let detail = format!("a plugin has at most {bytes_max} bytes (plugins.component_size)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}
