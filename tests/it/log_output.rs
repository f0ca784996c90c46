//! The log of the real binary: its lines, and a reader that stalls or is gone, while work and probes continue.

use std::io::{PipeReader, Read, pipe};

use serde_json::{Value, json};
use test_support::needs;

use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, eventually, items, text};

const ITEMS: u64 = 20;
/// Bytes that a Linux pipe holds by default.
const PIPE_BYTES: usize = 64 << 10;

/// A host whose stderr is a pipe, and the pipe's reading end.
async fn logging_to_a_pipe() -> (Site, Process, PipeReader) {
    // Each item of `flood` logs up to the limit of an attempt; each item of `hello` logs a line.
    let jobs = "[jobs.flood]\nplugin = \"log-flood\"\n[jobs.hello]\nplugin = \"hello\"\n";
    let site = Site::new(jobs);
    site.install("log-flood", "log-flood");
    site.install("hello", "hello");
    let (reader, writer) = pipe().unwrap();
    let mut host = Process::spawn_logging_to(writer.into(), &site.path("tidemill.toml"), site.address);
    host.ready().await;
    site.until_active("log-flood").await;
    site.until_active("hello").await;
    (site, host, reader)
}

async fn add(site: &Site, job: &str, key: &str) {
    let added = site.ask(&["items", "add", job, key]).await;
    assert!(added.status.success(), "{}", text(&added.stderr));
}

/// Items whose guests log are resolved in their first attempt, and none needs a person.
async fn works(site: &Site) {
    for n in 0..ITEMS {
        add(site, "hello", &format!("item-{n}")).await;
    }
    let look = || async {
        let jobs = http::get(site.address, "/api/v1/jobs").await.json();
        assert_eq!(items(&jobs, "manual_required"), 0, "{jobs}");
        (items(&jobs, "resolved") >= ITEMS).then_some(())
    };
    eventually("the items of hello", look).await;
}

/// Waits until the metric of dropped lines is above zero, and readiness names the log.
async fn until_lines_are_dropped(site: &Site) {
    let dropped = || async {
        let metrics = http::get(site.address, "/metrics").await.body;
        let line = metrics.lines().find(|line| line.starts_with("tidemill_log_lines_dropped_total"))?;
        let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (count > 0.0).then_some(())
    };
    eventually("dropped lines in the metrics", dropped).await;
}

#[tokio::test]
async fn stalled_reader_of_the_log_delays_nothing() {
    needs!(Product);
    let (site, host, mut reader) = logging_to_a_pipe().await;
    // Until the pipe and the host's own queue of 1 MiB are full, and lines are dropped.
    for n in 0..40 {
        add(&site, "flood", &format!("flood-{n}")).await;
    }
    until_lines_are_dropped(&site).await;
    works(&site).await;
    assert_eq!(http::get(site.address, "/healthz").await.status, 200);
    // Only now the test reads the pipe: it holds the oldest lines.
    let mut first = vec![0; PIPE_BYTES / 2];
    reader.read_exact(&mut first).unwrap();
    assert!(
        String::from_utf8_lossy(&first).contains("tidemill"),
        "the log begins with the start of the host"
    );
    // The reader stalls again, and the host still stops in order.
    host.terminate().await;
}

#[tokio::test]
async fn a_log_without_a_reader_fails_no_attempt() {
    needs!(Product);
    let (site, host, reader) = logging_to_a_pipe().await;
    drop(reader);
    works(&site).await;
    until_lines_are_dropped(&site).await;
    // The loops continue: recovery and heartbeat are loops that warn, and readiness fails while one is down.
    assert_eq!(http::get(site.address, "/healthz").await.status, 200);
    host.terminate().await;
}

#[tokio::test]
async fn a_closed_stderr_fails_no_attempt() {
    needs!(Product);
    let site = Site::new("[jobs.hello]\nplugin = \"hello\"\n");
    site.install("hello", "hello");
    let closed = ["sh", "-c", "exec \"$0\" \"$@\" 2>&-"].map(str::to_owned);
    let mut host = Process::spawn_by(&closed, &site.path("tidemill.toml"), site.address);
    host.ready().await;
    site.until_active("hello").await;
    works(&site).await;
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_an_error_is_logged_with_code_job_and_attempt() {
    needs!(Product);
    let site = Site::new(
        "log.format = \"json\"\n[jobs.flaky]\nplugin = \"flaky\"\nconfig = { payload = '{\"permanent\":true}' }\n",
    );
    site.install("flaky", "flaky");
    let host = site.serve().await;
    site.until_active("flaky").await;
    http::post(site.address, "/api/v1/jobs/flaky", "{}").await;
    site.until_items("manual_required", 1).await;
    host.terminate().await;
    let log = site.log();
    let lines =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    let errors: Vec<Value> = lines.filter(|line| line["message"] == "attempt failed").collect();
    let [error] = errors.as_slice() else { panic!("{log}") };
    let fields = error;
    assert_eq!((&fields["job"], &fields["attempt"]), (&json!("flaky"), &json!(1)), "{error}");
    assert!(fields["code"].as_str().is_some_and(|code| !code.is_empty()), "{error}");
}
