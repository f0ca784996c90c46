//! Sends requests to a real host: each must be answered, and none with a 5xx status.

use std::time::Duration;

use crate::keep;
use crate::mutate::Mutator;
use crate::support::http;
use crate::support::site::Site;

/// A request line and a body per seed.
pub const SEEDS: &[&str] = &[
    "POST /api/v1/jobs/a/items\n{\"key\":\"k-1\",\"payload\":\"{}\"}",
    "POST /api/v1/jobs/a\n{\"params\":{\"first\":1,\"last\":2},\"mode\":\"due\"}",
    "POST /api/v1/items/a/k-1/retry\n{\"notes\":\"n\",\"version\":1}",
    "POST /api/v1/items/a/k-1/abandon\n{}",
    "POST /api/v1/batches\n{\"batch\":\"b\",\"job\":\"a\",\"operation\":\"o\",\"items\":[{\"key\":\"1\",\"payload\":\"{}\"}],\"max_attempts\":3}",
    "POST /api/v1/batches/b/process\n{}",
    "POST /api/v1/jobs/a/pause\n{\"notes\":\"n\"}",
    "POST /api/v1/jobs/a/resume\n{}",
    "POST /api/v1/jobs/a/edits\n{\"retry.base\":\"2m\",\"concurrency\":\"3\"}",
    "POST /api/v1/outbox/taken\n{\"ids\":[\"01890000-0000-7000-8000-000000000000\"]}",
    "POST /api/v1/outbox/redrive\n{\"ids\":[]}",
    "POST /api/v1/recover\n{}",
    "GET /api/v1/schedule/preview?cron=0+2+*+*+*&tz=Europe/Berlin&count=10\n",
    "GET /api/v1/items?job=a&state=scheduled&limit=500\n",
    "GET /api/v1/items/a/k%2D1\n",
    "GET /api/v1/runs?job=a&limit=1\n",
    "GET /api/v1/jobs/a/ticks?limit=3\n",
    "GET /api/v1/audit?limit=3&job=a\n",
    "GET /api/v1/outbox?topic=t&limit=3&wait=0\n",
    "GET /api/v1/batches/open-items?batch=b\n",
    "GET /page/overview\n",
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn run(mut mutator: Mutator, requests: u64) -> u64 {
    let site = Site::new("[jobs.a]\nplugin = \"noop\"\nschedule = { every = \"1h\" }\n");
    site.install("noop", "noop");
    let process = site.serve().await;
    site.until_active("noop").await;
    let (mut bad, mut good) = (0, 0);
    for _ in 0..requests {
        let input = mutator.next();
        match ask(&site, &input).await {
            Ok(Some(status)) => good += u64::from(status < 300),
            Ok(None) => {}
            Err(why) => {
                bad += 1;
                eprintln!("api: {why} by {}", keep("api", &input).display());
            }
        }
    }
    eprintln!("api: {requests} requests, {good} of them good");
    assert!(good > 0, "no request was good: the run proves nothing");
    process.terminate().await;
    let log = site.log();
    let panics = log.matches("panicked at").count();
    if panics > 0 {
        eprintln!(
            "api: {panics} panics in the host's log: {}",
            log.lines().find(|line| line.contains("panicked at")).unwrap()
        );
    }
    bad + panics as u64
}

/// Returns the status, or None for input that is not a valid request and may remain unanswered.
async fn ask(site: &Site, input: &[u8]) -> Result<Option<u16>, String> {
    let text = String::from_utf8_lossy(input);
    let (line, body) = text.split_once('\n').unwrap_or((&text, ""));
    if line.contains(['\r', '\0']) || line.contains("/api/v1/events") {
        return Ok(None);
    }
    let (address, line, body) = (site.address, line.to_owned(), body.to_owned());
    // The client panics if a connection ends without an answer.
    let asked = tokio::spawn(async move {
        http::ask(address, &line, &[("content-type", "application/json")], &body).await
    });
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(Ok(answer)) if answer.status >= 500 => Err(format!("status {} ({})", answer.status, answer.body)),
        Ok(Ok(answer)) => Ok(Some(answer.status)),
        Ok(Err(_)) => Err("no answer".to_owned()),
        Err(_) => Err("no answer within 10 s".to_owned()),
    }
}
