//! The router of the API and the page, with the checks of each request.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

use crate::api::{authentication, host_check, idempotency, resources};
use crate::dashboard::{self, Pages};
use crate::http::{BODY_BYTES_MAX, error};
use crate::state::AppState;

/// The check that is added last is the first of a request.
pub fn router(state: AppState) -> Router {
    let pages = Pages::new();
    resources()
        .merge(dashboard::router(pages.clone()))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(from_fn_with_state(state.clone(), idempotency::check))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(pages, Pages::note))
        .layer(from_fn_with_state(state.clone(), authentication::check))
        .layer(from_fn_with_state(state.listen, host_check::check))
        .with_state(state)
}
