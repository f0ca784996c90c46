//! Sends events to a stream of NATS JetStream: an event is delivered when the stream acknowledges it. The events of a
//! wave are published together, before the first acknowledgement.

use std::io;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::{HeaderMap, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use rustls::ClientConfig;
use store::events::delivery::DueEvent;
use tokio::time::{Instant, timeout_at};

use crate::config;

pub struct Nats {
    to: config::Nats,
    address: ServerAddr,
    timeout: Duration,
    tls: ClientConfig,
    stream: Option<Context>,
}

impl Nats {
    pub fn new(to: &config::Nats, timeout: Duration, tls: ClientConfig) -> io::Result<Nats> {
        Ok(Nats { to: to.clone(), address: to.address.reveal().parse()?, timeout, tls, stream: None })
    }

    /// Reuses the connection if it seems to work, or opens a new one.
    pub async fn open(&mut self, until: Instant) -> Result<(), String> {
        let connected = |stream: &Context| stream.client().connection_state() == State::Connected;
        if self.stream.as_ref().is_some_and(connected) {
            return Ok(());
        }
        self.stream = None;
        let mut options = ConnectOptions::new()
            .name("tidemill")
            .tls_client_config(self.tls.clone())
            .connection_timeout(self.timeout)
            // A lost connection is dropped with its pending messages, because an event is only
            // sent in its turn.
            .max_reconnects(1)
            .event_callback(|event| async move {
                // An error without a response, like a publish that the user is not allowed to do.
                if let Event::ServerError(error) = event {
                    tracing::warn!(%error, "a NATS server reports an error");
                }
            });
        if let (Some(user), Some(password)) = (self.address.username(), &self.to.password) {
            options = options.user_and_password(user.to_owned(), password.secret.reveal().to_owned());
        }
        let connect = timeout_at(until, options.connect(&self.address)).await;
        let client = match connect {
            Ok(connected) => connected.map_err(|error| self.not_connected(&error))?,
            Err(_) => return Err(self.not_connected(&ConnectErrorKind::TimedOut.into())),
        };
        let stream = ContextBuilder::new().timeout(self.timeout).ack_timeout(self.timeout);
        self.stream = Some(stream.build(client));
        Ok(())
    }

    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Publishes all events, then waits for their acknowledgements.
    pub async fn send(&self, wave: &[&DueEvent], until: Instant) -> Vec<Result<(), String>> {
        let mut published = Vec::with_capacity(wave.len());
        for due in wave {
            published.push(self.publish(due, until).await);
        }
        let mut acknowledged = Vec::with_capacity(wave.len());
        for (due, published) in wave.iter().zip(published) {
            acknowledged.push(match published {
                // An event that the stream has already is a duplicate and counts as delivered.
                Ok(publish) => match timeout_at(until, publish.into_future()).await {
                    Ok(answer) => answer.map(|_| ()).map_err(|error| self.not_taken(&error, due)),
                    Err(_) => Err(self.not_taken(&PublishErrorKind::TimedOut.into(), due)),
                },
                Err(error) => Err(error),
            });
        }
        acknowledged
    }

    async fn publish(&self, due: &DueEvent, until: Instant) -> Result<PublishAckFuture, String> {
        let Some(stream) = &self.stream else { return Err("the connection is lost".to_owned()) };
        let (event, headers) = (&due.event, headers(due)?);
        let subject = self.to.subject.of(&event.topic);
        let sent = stream.publish_with_headers(subject, headers, event.payload.clone().into());
        match timeout_at(until, sent).await {
            Ok(sent) => sent.map_err(|error| self.not_taken(&error, due)),
            Err(_) => Err(self.not_taken(&PublishErrorKind::TimedOut.into(), due)),
        }
    }

    fn not_connected(&self, error: &ConnectError) -> String {
        let (address, said) = (&self.to.address, self.to.address.mask(&error.to_string()));
        match error.kind() {
            ConnectErrorKind::TimedOut => format!("{address} gave no answer within {:?}", self.timeout),
            ConnectErrorKind::AuthorizationViolation => {
                format!("{address} refuses the user: {said}; check user and password")
            }
            _ => format!("no connection to {address}: {said}; check the address, and that the server runs"),
        }
    }

    fn not_taken(&self, error: &PublishError, due: &DueEvent) -> String {
        let subject = self.to.subject.of(&due.event.topic);
        match error.kind() {
            PublishErrorKind::StreamNotFound => format!(
                "no JetStream stream takes the subject {subject:?}; make one that does, like \
                 `nats stream add EVENTS --subjects {subject}`, and check that the server runs with JetStream"
            ),
            PublishErrorKind::TimedOut => format!(
                "no stream confirmed the event within {:?}; check that the user may publish to {subject:?}",
                self.timeout
            ),
            PublishErrorKind::BrokenPipe => "the connection was lost before an answer came".to_owned(),
            _ => format!("not accepted: {error}"),
        }
    }
}

/// The stream detects repeated events by their id.
fn headers(due: &DueEvent) -> Result<HeaderMap, String> {
    let event = &due.event;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, event.id.to_string());
    let own = [
        ("Tidemill-Topic", event.topic.as_str()),
        ("Tidemill-Key", &event.key),
        ("Tidemill-Job", event.job.as_str()),
        ("Tidemill-Created-At", &event.created_at.to_string()),
    ];
    for (name, text) in own {
        let value: HeaderValue =
            text.parse().map_err(|e| format!("{text:?} is not allowed in a header: {e}"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
