//! Tokens of the API.

use test_support::needs;

use crate::support::http;
use crate::support::site::{Site, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s8_a_token_starts_a_job_and_nothing_else_does() {
    needs!(Product);
    let site = Site::new("[jobs.stock-replenish]\nplugin = \"hello\"\n");
    site.install("hello", "hello");
    let host = site.serve().await;
    site.until_active("hello").await;
    let jobs = http::get(site.address, "/api/v1/jobs").await.json();
    assert_eq!(jobs["jobs"][0]["name"], "stock-replenish");
    let start = async |headers: &[(&str, &str)]| {
        let headers = [&[("content-type", "application/json")], headers].concat();
        http::ask(site.address, "POST /api/v1/jobs/stock-replenish", &headers, "{\"mode\":\"all\"}").await
    };
    assert_eq!(start(&[]).await.status, 201, "without any token, this machine may do all");

    let token = text(&site.ask_here(&["token", "add", "ada"]).await.stdout).trim().to_owned();
    assert!(token.starts_with("tidemill_") && token.len() > 40, "{token}");
    let stored = std::fs::read(site.path("data/tidemill.db-wal")).unwrap();
    assert!(!stored.windows(token.len()).any(|bytes| bytes == token.as_bytes()), "only its hash is kept");
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", token.as_str())]] {
        let refused = start(headers).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "token-required"), "{headers:?}");
    }
    let bearer = format!("Bearer {token}");
    let started = start(&[("authorization", bearer.as_str())]).await;
    assert_eq!(started.status, 201, "{}", started.body);
    let run = started.json()["run_id"].as_str().unwrap().to_owned();
    let run = http::get(site.address, &format!("/api/v1/runs/{run}")).await.json();
    assert_eq!(run["started_by"], "ada");
    assert_eq!(start(&[("authorization", bearer.as_str())]).await.status, 201);
    let unknown = http::ask(
        site.address,
        "POST /api/v1/jobs/stock-replenish",
        &[("content-type", "application/json"), ("authorization", bearer.as_str())],
        "{\"mode\":\"some\"}",
    )
    .await;
    assert_eq!(unknown.code(), "bad-body");

    let again = site.ask_here(&["token", "add", "ada"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(text(&again.stderr), "tidemill: there is a token \"ada\" already: remove it first\n");
    assert!(text(&site.ask_here(&["token", "list"]).await.stdout).contains("ada"));
    assert!(site.ask_here(&["token", "remove", "ada"]).await.status.success());
    assert_eq!(start(&[("authorization", bearer.as_str())]).await.status, 401);
    assert_eq!(start(&[]).await.status, 201, "the last one is gone");
    host.terminate().await;
}
