//! A webhook in this process that accepts events, refuses them, or misbehaves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use ureq::http::{HeaderMap, HeaderName};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Refuses,
    Rubbish,
    Closes,
    Redirects,
    Hangs,
}

#[derive(Default)]
struct State {
    /// One for each request; when none is left, the webhook accepts every event.
    moods: VecDeque<Mood>,
    refused_key: Option<String>,
    taken: Vec<Value>,
    /// Numbers of events of the accepted requests.
    sizes: Vec<usize>,
    hanging: usize,
    /// The secret with which requests must be signed.
    secret: Option<String>,
}

/// Stops when dropped.
pub struct Webhook {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Webhook {
    pub async fn start(moods: &[Mood]) -> Webhook {
        Webhook::listen(moods, None).await
    }

    /// Starts with HTTPS; also returns its certificate in PEM.
    pub async fn start_tls() -> (Webhook, String) {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = own.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let certificates = vec![own.cert.der().clone()];
        let tls = tls.unwrap().with_no_client_auth().with_single_cert(certificates, key).unwrap();
        (Webhook::listen(&[], Some(TlsAcceptor::from(Arc::new(tls)))).await, own.cert.pem())
    }

    async fn listen(moods: &[Mood], tls: Option<TlsAcceptor>) -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { moods: moods.iter().copied().collect(), ..State::default() }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), shared.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, shared).await,
                        Some(tls) => {
                            let Ok(socket) = tls.accept(socket).await else { return };
                            serve(socket, shared).await;
                        }
                    }
                });
            }
        });
        Webhook { address, state, task }
    }

    /// From now on refuses events of this key; with `None`, accepts all.
    pub fn refuse_key(&self, key: Option<&str>) {
        self.state.lock().unwrap().refused_key = key.map(str::to_owned);
    }

    /// From now on refuses requests that are not signed with this secret.
    pub fn demand_signature(&self, secret: &str) {
        self.state.lock().unwrap().secret = Some(secret.to_owned());
    }

    /// Number of requests without an answer yet.
    pub fn hanging(&self) -> usize {
        self.state.lock().unwrap().hanging
    }

    pub fn sizes(&self) -> Vec<usize> {
        self.state.lock().unwrap().sizes.clone()
    }

    pub fn taken(&self) -> Vec<Value> {
        self.state.lock().unwrap().taken.clone()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let Some((head, body)) = read(&mut socket).await else { return };
    let secret = state.lock().unwrap().secret.clone();
    if let Some(Err(why)) = secret.map(|secret| verify(&head, &body, &secret)) {
        let text = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{why}",
            why.len()
        );
        let _ = socket.write_all(text.as_bytes()).await;
        let _ = socket.shutdown().await;
        return;
    }
    let Ok(body) = serde_json::from_str(&body) else { return };
    let mood = match body {
        Value::Array(events) => answer(&state, events),
        event => answer(&state, vec![event]),
    };
    let text = match mood {
        None => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        Some(Mood::Refuses) => {
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\nconnection: close\r\n\r\nnot now"
        }
        Some(Mood::Rubbish) => "\u{1}\u{2} this is no HTTP \r\n\r\n",
        Some(Mood::Closes) => "",
        Some(Mood::Redirects) => {
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
        // Until the client closes the connection.
        Some(Mood::Hangs) => {
            state.lock().unwrap().hanging += 1;
            let _ = socket.read_to_end(&mut Vec::new()).await;
            state.lock().unwrap().hanging -= 1;
            return;
        }
    };
    let _ = socket.write_all(text.as_bytes()).await;
    let _ = socket.shutdown().await;
}

/// Returns the mood in which a request is refused, or None if its events are accepted.
fn answer(state: &Mutex<State>, events: Vec<Value>) -> Option<Mood> {
    let mut state = state.lock().unwrap();
    if let Some(mood) = state.moods.pop_front() {
        return Some(mood);
    }
    let refused = state.refused_key.as_deref();
    if refused.is_some_and(|refused| events.iter().any(|event| event["key"] == refused)) {
        return Some(Mood::Refuses);
    }
    state.sizes.push(events.len());
    state.taken.extend(events);
    None
}

/// Verifies with the specification's own library for receivers.
fn verify(head: &str, body: &str, secret: &str) -> Result<(), String> {
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    let headers: HeaderMap =
        headers.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
    let receiver = standardwebhooks::Webhook::new(secret).unwrap();
    receiver.verify(body.as_bytes(), &headers).map_err(|e| e.to_string())
}

/// Head and body of a whole request; header names in lower case.
async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
        })?;
        if body.len() >= length {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}
