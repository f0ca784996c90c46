//! Requests of a real guest to real servers, correct and faulty ones.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::failure::{ErrorInfo, Failure};
use domain::job::JobSpec;
use domain::origin::reach;
use domain::outcome::Outcome;
use domain::plugin::VersionState;
use domain::runner::CallReport;
use test_support::needs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, job};
use crate::guest::http::resolver;

/// Handles each connection with `answer`. Returns the address and the number of connections.
async fn serve<F, A>(answer: A) -> (SocketAddr, Arc<AtomicUsize>)
where
    A: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream));
        }
    });
    (address, count)
}

/// Reads up to the empty line.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends these bytes on every connection, and closes it.
async fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes: Arc<[u8]> = bytes.into().into();
    let answer = move |mut stream: TcpStream| {
        let bytes = bytes.clone();
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
        }
    };
    serve(answer).await.0
}

pub fn http_answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn caller(origins: &[&str]) -> JobSpec {
    let mut caller = job("caller");
    caller.grants.http = origins.iter().map(|origin| reach(origin).unwrap()).collect();
    caller
}

async fn call(job: &JobSpec, payload: &str) -> CallReport<Outcome> {
    let bench = Bench::with_jobs(&["caller", "noop"], vec![job.clone(), super::job("noop")]).await;
    let report = bench.process("caller", payload).await;
    bench.still_works().await;
    report
}

/// One request to this server, with the guest's job changed as wanted.
async fn get(address: SocketAddr, change: impl FnOnce(&mut JobSpec)) -> Result<Outcome, Failure> {
    let mut caller = caller(&[&format!("http://{address}")]);
    change(&mut caller);
    call(&caller, &format!(r#"{{"url": "http://{address}/stock?of=7"}}"#)).await.result
}

fn error(result: Result<Outcome, Failure>) -> ErrorInfo {
    result.unwrap_err().error().unwrap().clone()
}

fn resolved(note: &str) -> Result<Outcome, Failure> {
    Ok(Outcome::Resolved { note: Some(note.to_owned()) })
}

#[tokio::test]
async fn an_answer_arrives_whole() {
    needs!(Plugins);
    let echo = |mut stream: TcpStream| async move {
        let head = head(&mut stream).await.to_ascii_lowercase();
        let _ = stream.write_all(http_answer(&head).as_bytes()).await;
    };
    let (address, _) = serve(echo).await;
    let Ok(Outcome::Resolved { note: Some(note) }) = get(address, |_| ()).await else { panic!() };
    assert!(note.starts_with(r"200 get /stock?of=7 http/1.1\r\n"), "{note}");
    assert!(note.contains(&format!("host: {address}")), "{note}");
    assert!(note.contains("idempotency-key: "), "{note}");
}

#[tokio::test]
async fn only_granted_origins_are_reached() {
    needs!(Plugins);
    let (address, connections) = serve(|_| async {}).await;
    let other = caller(&["http://127.0.0.1:1", "https://127.0.0.1", "http://stock.example.com"]);
    for url in [
        format!("http://{address}/"),
        format!("https://{address}/"),
        format!("http://127.0.0.1:1@{address}/"),
        format!("http://stock.example.com@{address}/"),
        format!("http://localhost:{}/", address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", address.port()),
    ] {
        let report = call(&other, &format!(r#"{{"url": "{url}"}}"#)).await;
        let error = error(report.result);
        assert!(["http-denied", "http-request"].contains(&error.code.as_str()), "{url}: {error:?}");
        assert!(error.code != "http-denied" || report.log.contains("was not sent: "), "{}", report.log);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn version_that_imports_http_needs_a_grant() {
    needs!(Plugins);
    let bench = Bench::with(&["caller"]).await;
    let VersionState::Rejected(reason) = &bench.sandbox.versions()[0].state else { panic!() };
    assert!(reason.contains("import wasi:http/outgoing-handler@0.2.12: requests are granted"), "{reason}");
    assert!(reason.ends_with("add it under [jobs.caller.grants]"), "{reason}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    needs!(Plugins);
    let (elsewhere, connections) = serve(|_| async {}).await;
    let moved = format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let error = error(get(answering(moved).await, |_| ()).await);
    assert_eq!((error.code.as_str(), connections.load(Ordering::Relaxed)), ("http-status-302", 0));
}

#[tokio::test]
async fn invalid_or_cut_answer_fails_that_item() {
    needs!(Plugins);
    let cases: [(&[u8], &str); 5] = [
        (b"this is not HTTP\r\n\r\n", "http-answer"),
        (b"", "http-answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "http-answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "http-answer"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "http-status-503"),
    ];
    for (bytes, code) in cases {
        let result = get(answering(bytes).await, |_| ()).await;
        assert!(
            matches!(&result, Err(Failure::Transient(error)) if error.code == code),
            "{bytes:?}: {result:?}"
        );
    }
    // Too many headers, and headers that are too long, are errors too.
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (what, bytes) in [("long", long), ("many", many)] {
        let result = get(answering(bytes).await, |_| ()).await;
        assert!(
            matches!(&result, Err(Failure::Transient(error)) if error.code == "http-answer"),
            "{what}: {result:?}"
        );
    }
}

#[tokio::test]
async fn retry_after_of_a_service_is_respected() {
    needs!(Plugins);
    let busy = "HTTP/1.1 429 Slow down\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let result = get(answering(busy).await, |_| ()).await;
    let wait = jiff::SignedDuration::from_secs(7);
    assert!(matches!(result, Err(Failure::Throttled { retry_after, .. }) if retry_after == wait));
}

#[tokio::test]
async fn missing_service_is_unreachable() {
    needs!(Plugins);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = error(get(address, |_| ()).await);
    assert_eq!(error.code, "http-unreachable");
    assert!(error.message.contains("ConnectionRefused"), "{}", error.message);
}

#[tokio::test]
async fn request_to_a_hanging_service_times_out() {
    needs!(Plugins);
    let short = |job: &mut JobSpec| job.limits.http_time = Duration::from_millis(50);
    let silent = |stream: TcpStream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    };
    let (address, _) = serve(silent).await;
    assert_eq!(error(get(address, short).await).code, "http-timeout");
    let within = format!(r#"{{"url": "http://{address}", "timeout_ms": 20}}"#);
    let report = call(&caller(&[&format!("http://{address}")]), &within).await;
    assert_eq!(error(report.result).code, "http-timeout");

    // Bytes that arrive slowly do not extend the deadline.
    let trickle = |mut stream: TcpStream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        let mut every = tokio::time::interval(Duration::from_millis(5));
        while stream.write_all(b"x").await.is_ok() {
            every.tick().await;
        }
    };
    let (address, _) = serve(trickle).await;
    // Long enough for the headers, also on a busy machine.
    let longer = |job: &mut JobSpec| job.limits.http_time = Duration::from_secs(2);
    let error = error(get(address, longer).await);
    assert_eq!(error.code, "http-answer");
    assert!(error.message.ends_with("the answer was cut off: HTTP response timeout"), "{}", error.message);
}

#[tokio::test]
async fn answers_and_requests_have_their_size() {
    needs!(Plugins);
    let small = |job: &mut JobSpec| job.limits.http_response_bytes = 1_000;
    let fits = answering(http_answer(&"x".repeat(1_000))).await;
    assert_eq!(get(fits, small).await, resolved(&format!("200 {}", "x".repeat(1_000))));
    let large = answering(http_answer(&"x".repeat(1_001))).await;
    assert_eq!(error(get(large, small).await).code, "http-too-large");
    // Without a length, the bytes are counted as they arrive.
    let endless = answering(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_001))).await;
    let cut = error(get(endless, small).await);
    assert_eq!(cut.code, "http-answer");
    assert!(cut.message.ends_with("HTTP response body size exceeds limit"), "{}", cut.message);

    let swallow = |mut stream: TcpStream| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
    };
    let (address, _) = serve(swallow).await;
    let mut poster = caller(&[&format!("http://{address}")]);
    poster.limits.http_request_bytes = 1_000;
    let report = call(&poster, &format!(r#"{{"url": "http://{address}", "body_bytes": 1001}}"#)).await;
    assert_eq!(error(report.result).code, "http-too-large");
}

#[tokio::test]
async fn an_attempt_has_its_number_of_requests_and_keeps_its_connection() {
    needs!(Plugins);
    let polite = |mut stream: TcpStream| async move {
        while !head(&mut stream).await.is_empty()
            && stream.write_all(http_answer("ok").as_bytes()).await.is_ok()
        {}
    };
    let (address, connections) = serve(polite).await;
    let mut caller = caller(&[&format!("http://{address}")]);
    caller.limits.http_requests = 3;
    let times = |copies: u32| format!(r#"{{"url": "http://{address}", "copies": {copies}}}"#);
    assert_eq!(call(&caller, &times(2)).await.result, resolved("200 ok"));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let report = call(&caller, &times(3)).await;
    assert_eq!(error(report.result).code, "http-limit");
    assert!(report.log.contains("an attempt may send 3 requests (limits.http_requests)"), "{}", report.log);
}

#[tokio::test]
async fn https_trusts_the_configured_certificates() {
    needs!(Plugins);
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = own.cert.der().clone();
    let key = own.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let answer = move |stream: TcpStream| {
        let tls = tls.clone();
        async move {
            let Ok(mut stream) = tls.accept(stream).await else { return };
            head(&mut stream).await;
            let _ = stream.write_all(http_answer("secret").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    };
    let (address, _) = serve(answer).await;
    let origin = format!("https://localhost:{}", address.port());
    let ask = async |certificates: &[_]| {
        let job = caller(&[&origin]);
        let bench = Bench::trusting(certificates, &["caller"], vec![job]).await;
        bench.process("caller", &format!(r#"{{"url": "{origin}/"}}"#)).await.result
    };
    assert_eq!(ask(&[certificate]).await, resolved("200 secret"));
    let unknown = error(ask(&[]).await);
    assert_eq!(unknown.code, "http-unreachable");
    assert!(unknown.message.contains("TlsCertificateError"), "{}", unknown.message);
}

#[test]
fn one_forbidden_address_forbids_the_name() {
    let at = |texts: &[&str]| texts.iter().map(|ip| (ip.parse::<IpAddr>().unwrap(), 0).into()).collect();
    let reached = |texts, private| resolver::checked("stock.example.com", at(texts), private);
    assert_eq!(reached(&["1.1.1.1", "2606:4700::1"], false).unwrap().len(), 2);
    let reported = reached(&["1.1.1.1", "10.0.0.1"], false).unwrap_err().to_string();
    assert_eq!(reported, "the name stock.example.com resolves to 10.0.0.1, which the job may not reach");
    assert!(reached(&["1.1.1.1", "10.0.0.1"], true).is_ok());
    assert!(reached(&["10.0.0.1", "169.254.169.254"], true).is_err());
    let none = reached(&[], true).unwrap_err().to_string();
    assert_eq!(none, "the name stock.example.com cannot be resolved");
}

/// A name that is resolved repeatedly, with different answers each time: addresses of both families, with a
/// forbidden one at any position. The connection uses the checked addresses.
#[test]
fn changed_dns_answer_never_leads_to_a_private_address() {
    const INSIDE: [&str; 10] = [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
        "fe80::1",
    ];
    const OUTSIDE: [&str; 4] = ["1.1.1.1", "8.8.8.8", "2606:4700::1", "2001:4860::8"];
    let at = |text: &str| SocketAddr::from((text.parse::<IpAddr>().unwrap(), 0));
    let mut refused = 0;
    for change in 0..1_000 {
        let mut answer: Vec<SocketAddr> =
            (0..change % 5).map(|n| at(OUTSIDE[(change + n) % OUTSIDE.len()])).collect();
        let bad = change % 2 == 1;
        if bad {
            answer.insert(change / 5 % (answer.len() + 1), at(INSIDE[change / 2 % INSIDE.len()]));
        }
        match resolver::checked("stock.example.com", answer.clone(), false) {
            Ok(reached) => assert!(!bad && reached.eq(answer)),
            Err(error) => {
                assert!(bad || answer.is_empty(), "{answer:?}: {error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 500 + 100, "the bad ones, and those without any address");
}
