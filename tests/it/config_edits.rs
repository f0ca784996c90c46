//! Edits of `tidemill.toml` while a host runs: taken over if they are sound, told and left alone if not.

use serde_json::Value;

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, eventually};
use crate::support::{http, on_both};

on_both!(edits_are_taken_over_while_the_host_runs);

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
    // Five of the first, by its new config, and what the second one's schedule found.
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
    assert!(site.log().contains("edited outside of [jobs] takes effect at the next start"), "{}", site.log());
    host.terminate().await;
}
