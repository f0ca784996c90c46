//! Sends events to a webhook: one POST each, signed if there is a key.

use std::time::Duration;

use domain::address::Address;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use store::events::delivery::DueEvent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::config::{SigningKey, Trusted};
use crate::raw_json::raw_or_text;

/// How much of an error response is reported.
const ANSWER_BYTES_SHOWN: u64 = 200;

#[derive(Clone)]
pub struct Webhook {
    url: Address,
    key: Option<SigningKey>,
    agent: ureq::Agent,
}

impl Webhook {
    pub fn new(url: &Address, key: Option<SigningKey>, timeout: Duration, tls: &Trusted) -> Webhook {
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
        Webhook { url: url.clone(), key, agent: config.into() }
    }

    pub async fn send(&self, due: &DueEvent) -> Result<(), String> {
        let (webhook, due) = (self.clone(), due.clone());
        let posted = tokio::task::spawn_blocking(move || webhook.post(&due));
        posted.await.unwrap_or_else(|e| Err(format!("the host failed while it sent this: {e}")))
    }

    /// Sends one request: any 2xx means that the event was delivered.
    fn post(&self, due: &DueEvent) -> Result<(), String> {
        let (id, body) = (due.event.id.to_string(), document(due)?);
        let mut request = self.agent.post(self.url.reveal()).header("content-type", "application/json");
        request = request.header("idempotency-key", &id);
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

fn document(due: &DueEvent) -> Result<String, String> {
    let event = &due.event;
    let document = Document {
        created_at: event.created_at.to_string(),
        id: event.id.to_string(),
        job: event.job.as_str(),
        key: &event.key,
        payload: raw_or_text(&event.payload),
        topic: &event.topic,
        r#try: due.tries,
    };
    serde_json::to_string(&document).map_err(|e| format!("the event cannot be written as JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use domain::id::EventId;
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
        DueEvent { event, tries: 1 }
    }

    #[test]
    fn the_payload_keeps_its_bytes() {
        let exact = "{\"b\": 123456789012345678901234567890,\t\"a\":1e400, \"b\":1.0}";
        let body = document(&due(exact)).unwrap();
        assert!(body.contains(&format!("\"payload\":{exact},\"topic\":\"orders\",\"try\":1}}")), "{body}");
        let text = document(&due("no JSON")).unwrap();
        assert!(text.contains("\"payload\":\"no JSON\","), "{text}");
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
            let url = Address::new(url);
            let webhook = Webhook::new(&url, None, Duration::from_secs(10), &Trusted::default());
            webhook.post(&due("{}")).unwrap_err()
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
