//! The page: rendered by the server, and kept current by short requests for one fragment. It holds no
//! connection, because a browser opens at most six to a host, for all of its tabs. An unchanged fragment is
//! answered without content. All assets are in the binary, and nothing is inline, so that the content
//! security policy can be strict.

pub(crate) mod bar;
mod escaper;
mod view;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use store::feed::Published;
use tokio::sync::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::{Params, path};
use crate::http::ApiError;
use crate::state::AppState;

/// How long a rendered overview is reused, even if events occur meanwhile.
const SHOWN_AT_LEAST: Duration = Duration::from_millis(500);
/// How long it is reused without events on this host: displayed times change, and other hosts send no events.
const SHOWN_AT_MOST: Duration = Duration::from_secs(5);

const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Path, content type and content.
const ASSETS: [(&str, &str, &str); 4] = [
    ("/assets/page.css", "text/css; charset=utf-8", include_str!("assets/page.css")),
    ("/assets/page.js", SCRIPT, include_str!("assets/page.js")),
    ("/assets/htmx.js", SCRIPT, include_str!("assets/htmx-2.0.11.min.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

pub(crate) fn router(pages: Pages) -> Router<AppState> {
    let fragments = pages.clone();
    let router = Router::new()
        .route("/", get(move |state| page(state, pages)))
        .route("/page/overview", get(move |state, seen| fragment(state, seen, fragments)));
    ASSETS.iter().fold(router, |router, (path, kind, content)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, *kind)], *content) }))
    })
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    /// Already rendered and thereby escaped.
    overview: String,
    jobs: Vec<String>,
    recover: String,
}

async fn page(State(state): State<AppState>, pages: Pages) -> Result<impl IntoResponse, ApiError> {
    let overview = pages.overview(&state, Duration::ZERO).await?.html;
    let jobs = state.engine.jobs().iter().map(|job| job.name.to_string()).collect();
    render(&Page { overview, jobs, recover: path(&["recover"]) }).map(Html)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// The version of the overview that the page shows.
    seen: Option<String>,
}

async fn fragment(
    State(state): State<AppState>,
    Params(Seen { seen }): Params<Seen>,
    pages: Pages,
) -> Result<Response, ApiError> {
    let shown = pages.overview(&state, SHOWN_AT_MOST).await?;
    if seen == Some(shown.version) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Html(shown.html).into_response())
}

/// The rendered overview, shared by all pages.
#[derive(Clone)]
pub(crate) struct Pages(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    feed: Option<Receiver<Published>>,
    changed: bool,
    overview: Option<(Instant, Overview)>,
}

#[derive(Clone)]
struct Overview {
    version: String,
    html: String,
}

impl Pages {
    pub fn new() -> Pages {
        Pages(Arc::default())
    }

    /// Returns an overview that is at most `age_max` old. It is rendered once for concurrent requests.
    async fn overview(&self, state: &AppState, age_max: Duration) -> Result<Overview, ApiError> {
        let mut shown = self.0.lock().await;
        let feed = shown.feed.get_or_insert_with(|| state.engine.feed());
        let mut happened = false;
        // It does not matter which events were missed, because all data is read again.
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = feed.try_recv() {
            happened = true;
        }
        shown.changed |= happened;
        if let Some((at, overview)) = &shown.overview {
            let most = if shown.changed { SHOWN_AT_LEAST.min(age_max) } else { age_max };
            if at.elapsed() < most {
                return Ok(overview.clone());
            }
        }
        shown.changed = false;
        let at = Instant::now();
        let version = Uuid::now_v7().to_string();
        let html = render(&view::overview(state, &version).await)?;
        let overview = Overview { version, html };
        shown.overview = Some((at, overview.clone()));
        Ok(overview)
    }

    /// Middleware that marks the overview as outdated after each successful change.
    pub async fn note(State(pages): State<Pages>, request: Request, next: Next) -> Response {
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let response = next.run(request).await;
        if changes && response.status().is_success() {
            pages.0.lock().await.changed = true;
        }
        response
    }
}

fn render(template: &impl Template) -> Result<String, ApiError> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a page could not be rendered");
        let detail = "the page could not be rendered; the log says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })
}
