//! Clients that send or read slowly are bounded in number, time and memory; work and probes continue.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use test_support::needs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, eventually};

const JOBS: &str = "[jobs.noop]\nplugin = \"noop\"\n";
/// Longest wait for an answer. Slow clients stay longer, so a host that waits for them exceeds it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const KIB: u64 = 1 << 10;

async fn site(limits: &str) -> (Site, Process) {
    let site = Site::new(&format!("[server.limits]\n{limits}\n{JOBS}"));
    site.install("noop", "noop");
    let host = site.serve().await;
    site.until_active("noop").await;
    (site, host)
}

/// Opens a connection and sends these bytes; a host at its limit may close it at once.
async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    socket
}

fn head(address: SocketAddr, request: &str, length: usize) -> String {
    format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn probes_answer(address: SocketAddr) {
    for probe in ["/healthz", "/readyz", "/metrics"] {
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, http::get(address, probe)).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("{probe} answers in time")).status, 200, "{probe}");
    }
}

/// Checks that a run of the job starts and ends, and that a new plugin is found.
async fn work_goes_on(site: &Site, another: &str) {
    let started =
        tokio::time::timeout(ANSWER_TIME_MAX, http::post(site.address, "/api/v1/jobs/noop", "{}")).await;
    assert_eq!(started.expect("the API answers in time").status, 201);
    let run = || async {
        let runs = http::get(site.address, "/api/v1/runs").await.json();
        (runs["runs"][0]["state"] == "finished").then_some(())
    };
    eventually("the run ends", run).await;
    site.install("noop", another);
    site.until_active(another).await;
}

/// The host's resident memory in bytes.
fn memory(host: &Process) -> u64 {
    let id = host.child.id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * KIB
}

async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut rest)).await;
    read.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_half_sent_requests_block_no_client() {
    needs!(Product);
    let (site, host) = site("").await;
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        slow.push(send(site.address, b"GET /api/v1/jobs HTTP/1.1\r\nhost: local").await);
    }
    probes_answer(site.address).await;
    work_goes_on(&site, "second").await;
    probes_answer(site.address).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", host.child.id().unwrap())).unwrap().count();
    assert!(open < 512, "{open} files are open");
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies_are_bounded_in_memory() {
    needs!(Product);
    let (site, host) = site("bodies = \"8MiB\"").await;
    let before = memory(&host);
    let request = head(site.address, "POST /api/v1/batches", 1_000_000);
    let body = [request.as_bytes(), &vec![b' '; 900_000]].concat();
    let mut slow = Vec::new();
    for _ in 0..300 {
        let (address, body) = (site.address, body.clone());
        slow.push(tokio::spawn(async move { send(address, &body).await }));
    }
    probes_answer(site.address).await;
    work_goes_on(&site, "second").await;
    let grown = memory(&host).saturating_sub(before);
    assert!(grown < 64 << 20, "300 half-sent bodies take {} MiB", grown >> 20);
    slow.iter().for_each(|task| task.abort());
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_are_bounded_in_memory() {
    needs!(Product);
    let (site, host) = site("answers = \"16MiB\"\nstall_time = \"500ms\"").await;
    for batch in 0..10 {
        let items: Vec<_> =
            (0..4).map(|_| json!({ "operation": "x", "payload": "y".repeat(200_000) })).collect();
        let body = json!({ "id": format!("b{batch}"), "job": "noop", "items": items }).to_string();
        assert_eq!(http::post(site.address, "/api/v1/batches", &body).await.status, 201);
    }
    let large = http::get(site.address, "/api/v1/items?limit=40").await;
    assert!(large.status == 200 && large.body.len() > 8_000_000, "{}", large.status);
    let before = memory(&host);
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(send(site.address, head(site.address, "GET /api/v1/items?limit=40", 0).as_bytes()).await);
        slow.push(send(site.address, head(site.address, "GET /api/v1/events", 0).as_bytes()).await);
    }
    probes_answer(site.address).await;
    work_goes_on(&site, "second").await;
    let grown = memory(&host).saturating_sub(before);
    assert!(grown < 200 << 20, "clients that do not read take {} MiB", grown >> 20);
    // Answers that are not read are dropped, so the budget is free again.
    let again = http::get(site.address, "/api/v1/items?limit=40").await;
    assert_eq!(again.status, 200, "{}", again.body);
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_bodies_are_cut_off() {
    needs!(Product);
    let (site, host) = site("head_time = \"300ms\"\nbody_time = \"600ms\"\nstall_time = \"300ms\"").await;
    let mut nothing = send(site.address, b"").await;
    let mut half_a_head = send(site.address, b"GET / HTTP/1.1\r\nho").await;
    assert!(is_closed(&mut nothing).await && is_closed(&mut half_a_head).await);
    let mut half_a_body =
        send(site.address, format!("{}{{\"id\"", head(site.address, "POST /api/v1/batches", 100)).as_bytes())
            .await;
    let mut answer = String::new();
    half_a_body.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("too-slow"), "{answer}");
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_refused_early_gets_its_answer() {
    needs!(Product);
    let (site, host) = site("").await;
    let body = "x".repeat(8 << 20);
    let answer = http::post(site.address, "/api/v1/batches", &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too-large"));
    let too_many = http::get(site.address, "/api/v1/items?limit=1").await;
    assert_eq!(too_many.status, 200);
    let file = site.path("batch.json");
    let items = json!({ "job": "noop", "items": [{ "operation": "x", "payload": "y".repeat(8 << 20) }] });
    std::fs::write(&file, items.to_string()).unwrap();
    let output = site.ask(&["batches", "add", file.to_str().unwrap()]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("at most 1048576") && !said.contains("cannot reach"), "{said}");
    host.terminate().await;
}
