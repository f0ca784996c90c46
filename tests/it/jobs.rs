//! Jobs that are switched off, and the self-check of jobs.

use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::site::{Site, eventually, text};

on_both! { s1_job_that_is_switched_off_runs_only_manually }

async fn s1_job_that_is_switched_off_runs_only_manually(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(
        &databases.store_url,
        "[jobs.on]\nplugin = \"hello\"\nschedule = { every = \"1s\" }\n\
         [jobs.off]\nplugin = \"hello\"\nschedule = { every = \"1s\" }\nenabled = false\n",
    );
    site.install("hello", "hello");
    let host = site.serve().await;
    site.until_active("hello").await;
    let runs = async |job: &str| {
        let runs = http::get(site.address, &format!("/api/v1/runs?job={job}")).await.json();
        runs["runs"].as_array().unwrap().len()
    };
    eventually("three runs of the job that is on", || async { (runs("on").await >= 3).then_some(()) }).await;
    assert_eq!(runs("off").await, 0);
    assert_eq!(http::post(site.address, "/api/v1/jobs/off", "{}").await.status, 201);
    assert_eq!(runs("off").await, 1);
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_five_questions_about_each_job() {
    needs!(Product);
    let site = Site::new(
        "[jobs.hello]\nplugin = \"hello\"\nschedule = { every = \"1m\" }\nretry = { max_attempts = 3 }\n\
         [jobs.by-hand]\nplugin = \"hello\"\nretry = { max_attempts = \"unbounded\" }\n",
    );
    site.install("hello", "hello");
    let host = site.serve().await;
    let table = text(&site.ask(&["doctor"]).await.stdout);
    for words in [
        "JOB      LOCK  HEARTBEAT",
        "hello    yes   yes                                        yes: 3 attempts, then a person decides  yes      yes",
        "by-hand  yes   no: it has no schedule that could be missed  yes: declared unbounded",
    ] {
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeeze(&table).contains(&squeeze(words)), "{words}\n{table}");
    }
    host.terminate().await;
}
