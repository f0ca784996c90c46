//! Headers that the host adds to requests: secrets, the idempotency key, the epoch.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use domain::failure::Failure;
use domain::job::JobSpec;
use domain::origin::reach;
use domain::outcome::Outcome;
use domain::runner::CallReport;
use domain::secret::{Secret, SecretHeader};
use test_support::needs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{head, http_answer};
use super::{Bench, job};

const CANARY: &str = "canary-7f3a";

/// Echoes each request, one byte at a time, in a header and in the body. Records the requests.
async fn parrot() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(repeat(stream, ear.clone()));
        }
    });
    (address, heard)
}

async fn repeat(mut stream: TcpStream, ear: Arc<Mutex<Vec<String>>>) {
    let head = head(&mut stream).await;
    ear.lock().unwrap().push(head.clone());
    let line = head.lines().find(|line| line.starts_with("authorization")).unwrap_or_default();
    let reported = format!("\r\nconnection: close\r\nx-heard: {line}\r\n");
    for byte in http_answer(&head).replacen("\r\n", &reported, 1).bytes() {
        let _ = stream.write_all(&[byte]).await;
        let _ = stream.flush().await;
    }
    // Unread bytes when the connection closes would reset it and lose the answer.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn caller(address: SocketAddr, methods: &str) -> JobSpec {
    let mut caller = job("caller");
    caller.grants.http = [reach(format!("{methods} http://{address}").trim_start()).unwrap()].into();
    caller
}

fn with_secret(mut job: JobSpec, to: &str) -> JobSpec {
    job.grants.secrets.push(SecretHeader {
        name: "stock_token".to_owned(),
        to: to.parse().unwrap(),
        header: "authorization".to_owned(),
        form: "Bearer {}".to_owned(),
        secret: Secret::new(CANARY).unwrap(),
    });
    job
}

async fn call(job: &JobSpec, payload: serde_json::Value) -> CallReport<Outcome> {
    let bench = Bench::with_jobs(&["caller"], vec![job.clone()]).await;
    bench.process("caller", &payload.to_string()).await
}

#[tokio::test]
async fn secret_reaches_only_its_service() {
    needs!(Plugins);
    let (address, heard) = parrot().await;
    let job = with_secret(caller(address, ""), &format!("http://{address}"));
    let own = serde_json::json!({"authorization": "Bearer mine", "accept-encoding": "gzip"});
    let report = call(&job, serde_json::json!({"url": format!("http://{address}/"), "headers": own})).await;
    let heard = heard.lock().unwrap()[0].clone();
    assert!(heard.contains(&format!("authorization: Bearer {CANARY}\r\n")), "{heard}");
    assert!(!heard.contains("mine") && !heard.contains("accept-encoding"), "{heard}");
    // The plugin gets the echo with the secret replaced by as many stars.
    let Ok(Outcome::Resolved { note: Some(note) }) = &report.result else { panic!("{report:?}") };
    assert!(note.contains(&format!("authorization: Bearer {}", "*".repeat(CANARY.len()))), "{note}");
    assert!(!format!("{report:?} {job:?}").contains(CANARY));
}

#[tokio::test]
async fn secret_is_sent_only_to_its_origin() {
    needs!(Plugins);
    let (address, heard) = parrot().await;
    let job = with_secret(caller(address, ""), "https://stock.example.com");
    assert!(call(&job, serde_json::json!({"url": format!("http://{address}/")})).await.result.is_ok());
    assert!(!heard.lock().unwrap()[0].contains("authorization"));
}

#[tokio::test]
async fn requests_carry_the_epoch_and_a_key_of_their_own() {
    needs!(Plugins);
    let (address, heard) = parrot().await;
    let own = serde_json::json!({"tidemill-epoch": "999"});
    let url = format!("http://{address}/");
    let payload = serde_json::json!({"url": url, "copies": 2, "body_bytes": 3, "headers": own});
    assert!(call(&caller(address, ""), payload).await.result.is_ok());
    let heads = heard.lock().unwrap().clone();
    let value = |head: &str, name: &str| {
        let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values.next().unwrap().to_owned();
        assert_eq!(values.next(), None, "{head}");
        value
    };
    let epochs: Vec<String> = heads.iter().map(|head| value(head, "tidemill-epoch")).collect();
    assert_eq!(epochs, ["1", "1", "1"]);
    let keys: Vec<String> = heads.iter().map(|head| value(head, "idempotency-key")).collect();
    // The last one is the plugin's own key, which is the attempt's.
    assert_eq!(keys[0], format!("{}-1", keys[2]));
    assert_eq!(keys[1], format!("{}-2", keys[2]));
}

#[tokio::test]
async fn only_granted_methods_are_sent() {
    needs!(Plugins);
    let (address, heard) = parrot().await;
    let url = format!("http://{address}/");
    let reading = caller(address, "GET,HEAD");
    let report = call(&reading, serde_json::json!({"url": url, "body_bytes": 3})).await;
    assert!(
        matches!(&report.result, Err(Failure::Permanent(error)) if error.code == "http-denied"),
        "{report:?}"
    );
    assert!(report.log.contains(&format!("POST to http://{address} is not granted")), "{}", report.log);
    assert!(heard.lock().unwrap().is_empty());
    assert!(call(&reading, serde_json::json!({"url": url})).await.result.is_ok());
}

/// A request is one request, to the granted host, whatever a plugin puts into its headers.
#[tokio::test]
async fn headers_cannot_smuggle_a_request() {
    needs!(Plugins);
    let (address, heard) = parrot().await;
    let url = format!("http://{address}/");
    let job = caller(address, "");
    let bench = Bench::with_jobs(&["caller"], vec![job]).await;
    for (name, value) in [
        ("x-a", "1\r\nx-smuggled: 1"),
        ("x-a", "1\nx-smuggled: 1"),
        ("x-a", "1\rx-smuggled: 1"),
        ("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("x-a", "1\0x-smuggled"),
        ("x-a\r\nx-smuggled", "1"),
        ("x-a: 1\r\nx-smuggled", "1"),
        ("x-smuggled x", "1"),
        ("x-smuggled:", "1"),
        (":x-smuggled", "1"),
        ("", "x-smuggled"),
        ("host", "smuggled.example.com"),
        ("Host", "smuggled.example.com"),
        ("transfer-encoding", "smuggled, chunked"),
        ("connection", "x-smuggled"),
        ("keep-alive", "x-smuggled"),
        ("upgrade", "x-smuggled"),
        ("http2-settings", "x-smuggled"),
        ("proxy-authorization", "x-smuggled"),
        ("proxy-connection", "x-smuggled"),
        ("content-length", "1"),
        ("content-length", "99999"),
        ("content-length", "3, 0"),
    ] {
        for body_bytes in [0, 3] {
            let headers = serde_json::json!({name: value});
            let payload = serde_json::json!({"url": url, "headers": headers, "body_bytes": body_bytes});
            let report = bench.process("caller", &payload.to_string()).await;
            let heard: Vec<String> = heard.lock().unwrap().drain(..).collect();
            let reported =
                format!("{name:?}: {value:?}, {body_bytes} bytes: {:?}, heard {heard:#?}", report.result);
            // A connection may have been opened before the wrong length was detected.
            let heard: Vec<&String> = heard.iter().filter(|head| !head.is_empty()).collect();
            if name == "content-length" && body_bytes > 0 {
                let lengths: Vec<&str> =
                    heard.iter().flat_map(|head| head.matches("content-length: ")).collect();
                assert!(lengths.len() == heard.len(), "{reported}");
                assert!(heard.iter().all(|head| head.contains("content-length: 3\r\n")), "{reported}");
            } else {
                assert!(report.result.is_err() && heard.is_empty(), "{reported}");
            }
        }
    }
    let path = serde_json::json!({"url": format!("{url} HTTP/1.1\r\nx-smuggled: 1\r\n\r\n")});
    assert!(bench.process("caller", &path.to_string()).await.result.is_err());
    assert!(heard.lock().unwrap().is_empty());
    assert!(bench.process("caller", &serde_json::json!({"url": url}).to_string()).await.result.is_ok());
}
