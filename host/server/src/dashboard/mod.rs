//! The page: rendered here, kept live by nudges over SSE, on which it reloads one fragment.
//! Everything it loads is in the binary; nothing inline, so that the content security policy can be strict.

pub(crate) mod bar;
mod view;

use std::convert::Infallible;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use engine::feed::Happening;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, AppState, Streams, path};

/// Shortest time between two nudges of one page.
const NUDGE_EVERY_MIN: Duration = Duration::from_millis(500);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Path, content type and content.
const ASSETS: [(&str, &str, &str); 5] = [
    ("/assets/page.css", "text/css; charset=utf-8", include_str!("assets/page.css")),
    ("/assets/page.js", SCRIPT, include_str!("assets/page.js")),
    ("/assets/htmx.js", SCRIPT, include_str!("assets/htmx-2.0.11.min.js")),
    ("/assets/htmx-sse.js", SCRIPT, include_str!("assets/htmx-ext-sse-2.2.4.min.js")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

pub(crate) fn router(streams: Streams) -> Router<AppState> {
    let router = Router::new()
        .route("/", get(page))
        .route("/page/overview", get(fragment))
        .route("/page/nudges", get(move |state| nudges(state, streams)));
    ASSETS.iter().fold(router, |router, (path, kind, content)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, *kind)], *content) }))
    })
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    /// Rendered, and thereby escaped, before.
    overview: String,
    jobs: Vec<String>,
    recover: String,
}

async fn page(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    let overview = render(&view::overview(&state).await)?;
    let jobs = state.engine.jobs().iter().map(|job| job.name.to_string()).collect();
    render(&Page { overview, jobs, recover: path(&["recover"]) }).map(Html)
}

async fn fragment(State(state): State<AppState>) -> Result<impl IntoResponse, ApiError> {
    render(&view::overview(&state).await).map(Html)
}

fn render(template: &impl Template) -> Result<String, ApiError> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a page could not be rendered");
        let detail = "the page could not be rendered; the log says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })
}

/// "Something happened", at most every [`NUDGE_EVERY_MIN`], and always once more after the last happening.
async fn nudges(
    State(state): State<AppState>,
    streams: Streams,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let nudger = Nudger {
        feed: state.engine.feed(),
        stopping: state.stopping.clone(),
        not_before: Instant::now(),
        _permit: streams.enter()?,
    };
    let events = unfold(nudger, |mut nudger| async {
        nudger.next().await?;
        Some((Ok(Event::default().event("nudge").data("changed")), nudger))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)))
}

struct Nudger {
    feed: Receiver<Happening>,
    stopping: CancellationToken,
    not_before: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Nudger {
    /// Waits for a happening, then until a nudge is allowed, and swallows what came meanwhile.
    async fn next(&mut self) -> Option<()> {
        let stopping = self.stopping.clone();
        let happened = async {
            match self.feed.recv().await {
                // Which ones were missed does not matter: the page reads everything anew.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
            tokio::time::sleep_until(self.not_before).await;
            while let Ok(_) | Err(TryRecvError::Lagged(_)) = self.feed.try_recv() {}
            self.not_before = Instant::now() + NUDGE_EVERY_MIN;
            Some(())
        };
        tokio::select! {
            () = stopping.cancelled() => None,
            nudge = happened => nudge,
        }
    }
}
