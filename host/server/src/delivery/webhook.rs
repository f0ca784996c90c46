//! Sends events to a webhook by POST, signed if there is a key: one request for each event, or arrays of events.

use std::time::Duration;

use domain::address::Address;
use domain::id::EventId;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use store::events::delivery::DueEvent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::waves::{Request, Shape};
use crate::config::{SigningKey, Trusted};
use crate::raw_json::raw_or_text;

/// How much of an error response is reported.
const ANSWER_BYTES_SHOWN: u64 = 200;

/// Requests that are sent at the same time.
const REQUESTS_MAX: usize = 32;
/// Payload bytes of one array, unless it has one event only.
const ARRAY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub struct Webhook {
    url: Address,
    key: Option<SigningKey>,
    /// Events of one request. With more than 1, the body is an array.
    batch: usize,
    agent: ureq::Agent,
}

impl Webhook {
    pub fn new(
        url: &Address,
        key: Option<SigningKey>,
        batch: u32,
        timeout: Duration,
        tls: &Trusted,
    ) -> Webhook {
        let own: Vec<_> = tls.certificates.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let roots = if own.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&own) };
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            // A connection that the receiver closed meanwhile would cost a try.
            .max_idle_connections(0)
            .build();
        let batch = usize::try_from(batch).unwrap_or(usize::MAX).max(1);
        Webhook { url: url.clone(), key, batch, agent: config.into() }
    }

    pub fn shape(&self) -> Shape {
        let batch = self.batch;
        Shape {
            requests: REQUESTS_MAX,
            events: batch,
            bytes: ARRAY_BYTES_MAX,
            of_key: batch,
            retries_alone: batch > 1,
        }
    }

    pub async fn send(&self, wave: &[Request<'_>]) -> Vec<Result<(), String>> {
        let sent = join_all(wave.iter().map(|events| self.send_one(events))).await;
        let results = wave.iter().zip(sent);
        results.flat_map(|(events, sent)| std::iter::repeat_n(sent, events.len())).collect()
    }

    async fn send_one(&self, events: &[&DueEvent]) -> Result<(), String> {
        let (webhook, message) = (self.clone(), self.message(events)?);
        let posted = tokio::task::spawn_blocking(move || webhook.post(message));
        posted.await.unwrap_or_else(|e| Err(format!("the host failed while it sent this: {e}")))
    }

    fn message(&self, events: &[&DueEvent]) -> Result<Message, String> {
        let written = match events {
            [due] if self.batch == 1 => serde_json::to_string(&document(due)).map(|body| Message {
                id: due.event.id,
                is_same_again: true,
                body,
            }),
            events => {
                let documents: Vec<Document<'_>> = events.iter().map(|due| document(due)).collect();
                serde_json::to_string(&documents).map(|body| Message {
                    id: EventId::new(Timestamp::now()),
                    is_same_again: false,
                    body,
                })
            }
        };
        written.map_err(|e| format!("the event cannot be written as JSON: {e}"))
    }

    /// Sends one request: any 2xx means that its events were delivered.
    fn post(&self, message: Message) -> Result<(), String> {
        let Message { id, is_same_again, body } = message;
        let id = id.to_string();
        let mut request = self.agent.post(self.url.reveal()).header("content-type", "application/json");
        if is_same_again {
            request = request.header("idempotency-key", &id);
        }
        // Receivers refuse old signatures by their own clock, so this is the real time and
        // not the host's clock.
        let signed = self.key.as_ref().map(|key| key.headers(&id, Timestamp::now(), &body));
        for (name, value) in signed.into_iter().flatten() {
            request = request.header(name, value);
        }
        let mut answer = request.send(body).map_err(|e| self.url.mask(&e.to_string()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let said =
            answer.body_mut().with_config().limit(ANSWER_BYTES_SHOWN).read_to_string().unwrap_or_default();
        let said = self.url.mask(said.trim());
        Err(format!("it answered with status {}: {said}", answer.status().as_u16()))
    }
}

/// One request.
struct Message {
    id: EventId,
    /// Whether a further try sends the same event under the same id. The events of an array may differ then.
    is_same_again: bool,
    body: String,
}

#[derive(Serialize)]
struct Document<'a> {
    created_at: String,
    id: String,
    job: &'a str,
    key: &'a str,
    /// The bytes that the job published, if they are JSON.
    payload: Box<RawValue>,
    topic: &'a str,
    r#try: u32,
}

fn document(due: &DueEvent) -> Document<'_> {
    let event = &due.event;
    Document {
        created_at: event.created_at.to_string(),
        id: event.id.to_string(),
        job: event.job.as_str(),
        key: &event.key,
        payload: raw_or_text(&event.payload),
        topic: &event.topic,
        r#try: due.tries,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use store::events::outbox::EventView;

    use super::*;

    fn due(payload: &str) -> DueEvent {
        let event = EventView {
            id: EventId::new(Timestamp::UNIX_EPOCH),
            topic: "orders".to_owned(),
            key: "k".to_owned(),
            payload: payload.to_owned(),
            job: "wallet".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
        };
        DueEvent { event, tries: 1, seq: 0 }
    }

    fn webhook(url: &str, batch: u32) -> Webhook {
        Webhook::new(&Address::new(url), None, batch, Duration::from_secs(10), &Trusted::default())
    }

    fn body(batch: u32, events: &[&DueEvent]) -> String {
        webhook("http://h/", batch).message(events).unwrap().body
    }

    #[test]
    fn the_payload_keeps_its_bytes() {
        let exact = "{\"b\": 123456789012345678901234567890,\t\"a\":1e400, \"b\":1.0}";
        let exact_body = body(1, &[&due(exact)]);
        assert!(
            exact_body.contains(&format!("\"payload\":{exact},\"topic\":\"orders\",\"try\":1}}")),
            "{exact_body}"
        );
        let text = body(1, &[&due("no JSON")]);
        assert!(text.contains("\"payload\":\"no JSON\","), "{text}");
    }

    #[test]
    fn a_batch_is_an_array_also_of_one_event() {
        let (one, two) = (due("1"), due("{}"));
        let array: Vec<serde_json::Value> = serde_json::from_str(&body(2, &[&one, &two])).unwrap();
        let ids: Vec<&str> = array.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [one.event.id.to_string(), two.event.id.to_string()]);
        let alone: Vec<serde_json::Value> = serde_json::from_str(&body(2, &[&one])).unwrap();
        assert_eq!((alone.len(), &alone[0]["payload"]), (1, &serde_json::json!(1)));
    }

    /// The receiver's response contains the complete request.
    #[test]
    fn errors_name_no_part_of_the_address_but_its_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).unwrap();
            let target = String::from_utf8_lossy(&request[..read]).lines().next().unwrap().to_owned();
            let said = format!("cannot {target}");
            let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", said.len());
            stream.write_all(format!("{head}{said}").as_bytes()).unwrap();
        });
        let send = |url: &str| {
            let webhook = webhook(url, 1);
            webhook.post(webhook.message(&[&due("{}")]).unwrap()).unwrap_err()
        };
        let answered = send(&format!("http://{address}/services/hunter2?token=hunter2"));
        server.join().unwrap();
        assert!(answered.starts_with("it answered with status 404: cannot POST "), "{answered}");
        let refused = send(&format!("http://{address}/services/hunter2?token=hunter2#hunter2"));
        let unusable = send("http://h h/hunter2");
        for error in [answered, refused, unusable] {
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
