//! Entry point of requests: counts them and applies the service's mood.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::mood::Mood;

pub struct Door {
    mood: watch::Sender<Mood>,
    met: Mutex<BTreeMap<Mood, usize>>,
    inside: AtomicUsize,
    inside_max: AtomicUsize,
}

impl Default for Door {
    fn default() -> Door {
        Door {
            mood: watch::Sender::new(Mood::Well),
            met: Mutex::default(),
            inside: AtomicUsize::default(),
            inside_max: AtomicUsize::default(),
        }
    }
}

/// A request in progress.
pub struct Call<'a> {
    door: &'a Door,
    pub mood: Mood,
}

impl Call<'_> {
    /// The response, or a cut connection if the mood is `Loses`.
    pub fn answer(&self, answer: Response) -> Response {
        if self.mood == Mood::Loses { cut_off() } else { answer }
    }

    /// The same for a consumer of events that accepted one.
    pub fn taken(&self, answer: StatusCode) -> Response {
        if self.mood == Mood::Loses { not_taken(cut_off()) } else { answer.into_response() }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.door.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    pub fn calls(&self) -> usize {
        self.met().values().sum()
    }

    /// Number of requests by the mood at their arrival.
    pub fn met(&self) -> BTreeMap<Mood, usize> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of requests in progress.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// Highest number of requests in progress at the same time.
    pub fn inside_max(&self) -> usize {
        self.inside_max.load(Ordering::Relaxed)
    }

    pub fn standing(&self) -> Value {
        json!({ "mood": self.mood().as_str(), "calls": self.calls(), "inside": self.inside() })
    }

    /// Continues if the mood permits it. Otherwise returns the response as an error.
    pub async fn enter(&self) -> Result<Call<'_>, Response> {
        let mood = self.mood();
        *self.met.lock().unwrap_or_else(PoisonError::into_inner).entry(mood).or_default() += 1;
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        self.inside_max.fetch_max(inside, Ordering::Relaxed);
        let mut call = Call { door: self, mood };
        if call.mood == Mood::Hangs {
            let mut moods = self.mood.subscribe();
            call.mood = moods.wait_for(|mood| *mood != Mood::Hangs).await.map_or(Mood::Closes, |mood| *mood);
        }
        match answer(call.mood) {
            Some(answer) => Err(answer),
            None => Ok(call),
        }
    }
}

/// The response that does not depend on the request, if the mood has one.
pub fn answer(mood: Mood) -> Option<Response> {
    match mood {
        Mood::Well | Mood::Fails | Mood::Loses | Mood::Hangs => None,
        Mood::Refuses => Some((StatusCode::SERVICE_UNAVAILABLE, "not now").into_response()),
        Mood::Rubbish => Some("<html>this is not what you asked for</html>".into_response()),
        Mood::Closes => Some(cut_off()),
    }
}

fn cut_off() -> Response {
    let broken = stream::iter([Ok(Bytes::from("{\"succ")), Err(io::Error::other("closed"))]);
    Body::from_stream(broken).into_response()
}

/// The response of an event consumer that did not accept the event. A 2xx status would confirm it.
pub fn not_taken(mut answer: Response) -> Response {
    if answer.status().is_success() {
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
    }
    answer
}
