//! Edits of `tidemill.toml` while a host runs: valid ones are applied, invalid ones are reported and ignored.

use serde_json::Value;
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::site::{Site, eventually};

on_both!(edits_are_taken_over_while_the_host_runs, setting_of_the_api_wins_until_it_is_cleared);

fn noop(job: &str, count: u32, more: &str) -> String {
    format!("[jobs.{job}]\nplugin = \"noop\"\nconfig.count = \"{count}\"\n{more}\n")
}

async fn jobs(site: &Site) -> Vec<(String, String)> {
    let jobs = http::get(site.address, "/api/v1/jobs").await.json();
    let shown = |job: &Value| {
        (job["name"].as_str().unwrap().to_owned(), job["schedule"].as_str().unwrap().to_owned())
    };
    jobs["jobs"].as_array().unwrap().iter().map(shown).collect()
}

async fn until_jobs(site: &Site, wanted: &[(&str, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect();
    let look = || async { (jobs(site).await == wanted).then_some(()) };
    eventually("the edited jobs", look).await;
}

async fn until_audited(databases: &Databases, action: &str, detail: &str) {
    let found = format!("SELECT COUNT(*) FROM audit WHERE action = '{action}' AND detail LIKE '%{detail}%'");
    let look = || async { (databases.store_number(&found).await == 1).then_some(()) };
    eventually(&format!("{action}: {detail}"), look).await;
}

async fn edits_are_taken_over_while_the_host_runs(kind: Kind) {
    let databases = Databases::new(kind).await;
    let mut site = Site::with_store(&databases.store_url, &noop("one", 2, ""));
    site.install("noop", "noop");
    let host = site.serve().await;
    site.until_active("noop").await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/one", "{}").await.status, 201);
    site.until_items("resolved", 2).await;

    site.edit(&(noop("one", 5, "") + &noop("two", 1, "schedule = { every = \"1s\" }")));
    until_jobs(&site, &[("one", "manual"), ("two", "every 1s")]).await;
    until_audited(&databases, "config_taken", "job one changed, job two is new").await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/one", "{}").await.status, 201);
    // Five of the first job, by its new config, and the item of the second job's schedule.
    site.until_items("resolved", 6).await;

    for (broken, told) in [
        ("[jobs.one]\nplugin = \"noop\"\nconcurency = 3\n", "did you mean \"concurrency\"?"),
        ("[jobs.one\n", "not valid TOML"),
    ] {
        site.edit(broken);
        until_audited(&databases, "config_refused", told).await;
        assert_eq!(jobs(&site).await.len(), 2, "nothing changes");
    }
    assert!(
        site.log().contains("the edited configuration is not in effect, nothing changes"),
        "{}",
        site.log()
    );

    site.edit("log.format = \"json\"\n");
    until_jobs(&site, &[]).await;
    until_audited(&databases, "config_taken", "job one is gone, job two is gone").await;
    assert!(site.log().contains("changes outside of [jobs] take effect at the next start"), "{}", site.log());
    host.terminate().await;
}

async fn set(site: &Site, body: &str) -> http::Answer {
    http::post(site.address, "/api/v1/jobs/one/edits", body).await
}

/// API settings win over a restart, over an edit of the file, and on a host that was not notified.
async fn setting_of_the_api_wins_until_it_is_cleared(kind: Kind) {
    let databases = Databases::new(kind).await;
    let mut site = Site::with_store(&databases.store_url, &noop("one", 2, "schedule = { every = \"1h\" }"));
    site.install("noop", "noop");
    let host = site.serve().await;
    site.until_active("noop").await;

    let answer =
        set(&site, r#"{"set": {"schedule": {"cron": "0 3 * * *"}, "retry.base": "10s", "config.count": 4}}"#)
            .await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    until_jobs(&site, &[("one", "cron 0 3 * * * (UTC)")]).await;
    until_audited(&databases, "job_edited", "retry.base = \"10s\"").await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/one", "{}").await.status, 201);
    site.until_items("resolved", 4).await;

    for (body, status, told) in [
        (r#"{"set": {"concurency": 3}}"#, 422, "did you mean \"concurrency\"?"),
        (r#"{"set": {"schedule": {"cron": "99 * * * *"}}}"#, 422, "is not valid"),
        (r#"{"set": {"schedule.cron.tz": "UTC"}}"#, 422, "holds no key"),
        (r#"{"set": {"retry": null}}"#, 422, "null is no value"),
        (r#"{"set": {"grants.sql": {}}}"#, 400, "only in the file"),
        (r#"{"set": {"retry..base": 1}}"#, 400, "is no key"),
        ("{}", 400, "nothing is set or cleared"),
        (r#"{"sett": {}}"#, 400, "unknown field"),
    ] {
        let answer = set(&site, body).await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(answer.status == status && detail.contains(told), "{body}: {} {detail}", answer.status);
    }
    let edits = http::get(site.address, "/api/v1/jobs/one/edits").await.json();
    let keys: Vec<&str> =
        edits["edits"].as_array().unwrap().iter().map(|edit| edit["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["config.count", "retry.base", "schedule"], "what was refused changed nothing");

    host.terminate().await;
    let host = site.serve().await;
    until_jobs(&site, &[("one", "cron 0 3 * * * (UTC)")]).await;
    site.edit(&noop("one", 2, "schedule = { every = \"2h\" }\nconcurrency = 7"));
    until_audited(&databases, "config_taken", "job one changed").await;
    until_jobs(&site, &[("one", "cron 0 3 * * * (UTC)")]).await;

    assert_eq!(set(&site, r#"{"clear": ["*"]}"#).await.status, 200);
    until_jobs(&site, &[("one", "every 2h")]).await;
    until_audited(&databases, "job_edited", "schedule as in the file").await;
    host.terminate().await;
}
