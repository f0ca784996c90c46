//! Problems in the host's environment are reported with their place and a remedy, and lose no data.

mod api;
mod datasource;
mod outage;
mod slow_clients;

use std::fs;

use sqlx::{Connection, PgConnection, SqliteConnection};
use test_support::{needs, on_both, postgres_url};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::http;
use crate::support::process::tidemill;
use crate::support::site::{Site, text};

on_both!(a_store_of_a_newer_version_is_refused_and_left_alone);

const NOOP: &str = "[jobs.noop]\nplugin = \"noop\"\n";

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// Checks that a host of this site refuses to start, for these reasons.
async fn refused(site: &Site, parts: &[&str]) {
    let (code, said) = site.refusal(&site.path("tidemill.toml")).await;
    says(&said, parts);
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test]
async fn a_second_host_on_the_same_store_or_folder_is_refused() {
    needs!(Product);
    let site = Site::new(NOOP);
    site.install("noop", "noop");
    let first = site.serve().await;

    let second = Site::with_store(&format!("sqlite://{}", site.path("data/tidemill.db").display()), NOOP);
    let (code, said) = second.refusal(&second.path("tidemill.toml")).await;
    let file = site.path("data/tidemill.db");
    let expected = format!(
        "another tidemill uses the SQLite store {}: stop it, or give this host its own \
         (several hosts share work through a Postgres store)",
        file.display()
    );
    says(&said, &[&expected]);
    assert_eq!(code, Some(1));

    let data = site.path("data");
    let third = Site::new(NOOP);
    let config = third.write("other.toml", data.to_str().unwrap());
    let (code, said) = third.refusal(&config).await;
    says(&said, &[&format!("another tidemill uses the data folder {}: stop it, or give", data.display())]);
    assert_eq!(code, Some(1));

    assert_eq!(http::get(site.address, "/readyz").await.status, 200, "the first goes on");
    first.terminate().await;
    // The first host leaves nothing behind that would prevent the next start.
    site.serve().await.terminate().await;
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    needs!(Product);
    let site = Site::new(NOOP);
    let _taken = std::net::TcpListener::bind(site.address).unwrap();
    let expected = format!(
        "tidemill: {} is in use: stop the process that listens there (another tidemill?), or set server.listen to another port\n",
        site.address
    );
    refused(&site, &[&expected]).await;
    assert!(!site.path("data").exists(), "nothing was touched");
}

#[tokio::test]
async fn unavailable_postgres_is_reported_without_its_password() {
    needs!(Product, Postgres);
    let site = Site::with_store("postgres://ada:hunter2@127.0.0.1:1/tidemill", NOOP);
    let (code, said) = site.refusal(&site.path("tidemill.toml")).await;
    says(&said, &["127.0.0.1:1/tidemill", "check that it runs, the address, the user and the password"]);
    assert!(said.contains("ada") && !said.contains("hunter2"), "{said}");
    assert_eq!(code, Some(1));

    let url = postgres_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let nowhere = format!("{}/nowhere", server.replace("://postgres@", "://postgres:hunter2@"));
    let site = Site::with_store(&nowhere, NOOP);
    let (code, said) = site.refusal(&site.path("tidemill.toml")).await;
    says(&said, &["/nowhere", "database \"nowhere\" does not exist"]);
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_refused() {
    needs!(Product);
    let site = Site::new(NOOP);
    site.serve().await.terminate().await;
    let read_only = format!("sqlite://{}?mode=ro", site.path("data/tidemill.db").display());
    refused(&Site::with_store(&read_only, NOOP), &["read-only", "make both writable for this user"]).await;

    let site = Site::new(NOOP);
    fs::create_dir_all(site.path("data/tidemill.db")).unwrap();
    refused(&site, &["SITE/data/tidemill.db", "it is a folder: name a file in it"]).await;

    let site = Site::new(NOOP);
    fs::create_dir_all(site.path("data")).unwrap();
    let diary = "dear diary, ".repeat(500);
    fs::write(site.path("data/tidemill.db"), &diary).unwrap();
    refused(&site, &["SITE/data/tidemill.db", "is no SQLite database", "move it away, or name another file"])
        .await;
    assert_eq!(fs::read_to_string(site.path("data/tidemill.db")).unwrap(), diary);

    let site = Site::new(NOOP);
    fs::write(site.path("data"), "a file").unwrap();
    refused(&site, &["cannot make the data folder SITE/data"]).await;
}

async fn a_store_of_a_newer_version_is_refused_and_left_alone(kind: Kind) {
    let databases = Databases::new(kind).await;
    let host = Host::start("one", &databases, &manual(), vec![job("noop")]).await;
    host.app.stop().await;
    let checksum = if kind == Kind::Sqlite { "x'00'" } else { "'x'" };
    let row = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'from the future', TRUE, {checksum}, 1)"
    );
    match kind {
        Kind::Sqlite => {
            let mut db = SqliteConnection::connect(&databases.store_url).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(row)).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
        }
        Kind::Postgres => {
            let mut db = PgConnection::connect(&databases.store_url).await.unwrap();
            sqlx::raw_sql("SET search_path = tidemill").execute(&mut db).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(row)).execute(&mut db).await.unwrap();
        }
    }
    let hosts = databases.store_number("SELECT COUNT(*) FROM host").await;
    let refused = Host::try_start("two", &databases, &manual(), vec![job("noop")]).await;
    let error = format!("{:#}", refused.err().unwrap());
    let expected = "the database was set up by a newer tidemill (it has migration 99, this one ends at ";
    says(&error, &[expected, "run that version, or restore a copy from before the upgrade"]);
    assert_eq!(databases.store_number("SELECT COUNT(*) FROM host").await, hosts);
}

const MISTAKES: &str = r#"
[plugin]
dir = "x"
[jobs.wallet]
plugin = "wallet"
concurency = 3
schedule = { cron = "61 * * * *" }
[jobs.stock]
plugin = "stock"
schedule = { cron = "@daily", tz = "Europe/Atlantis" }
[jobs.stock.grants]
sql = { shop = "read" }
"#;

#[tokio::test]
async fn all_mistakes_of_a_configuration_are_reported_together() {
    needs!(Product);
    let site = Site::new(MISTAKES);
    let told = [
        "SITE/tidemill.toml:5: plugin: there is no such key; did you mean \"plugins\"?",
        "SITE/tidemill.toml:9: jobs.wallet.concurency: there is no such key; did you mean \"concurrency\"?",
        "SITE/tidemill.toml:10: jobs.wallet.schedule.cron: cron text \"61 * * * *\" is not valid: ",
        "; use 5 or 6 fields like \"*/5 * * * *\", or @daily",
        "SITE/tidemill.toml:13: jobs.stock.schedule.tz: time zone \"Europe/Atlantis\" is not known; \
         use an IANA name like \"Europe/Berlin\"",
        "SITE/tidemill.toml:15: jobs.stock.grants.sql.shop: there is no datasource \"shop\"; \
         add [datasources.shop] with its url",
    ];
    let config = site.path("tidemill.toml");
    let checked = tidemill(&["config", "check", "--config", config.to_str().unwrap()], site.dir.path()).await;
    let said = text(&checked.stderr).replace(site.dir.path().to_str().unwrap(), "SITE");
    says(&said, &told);
    assert_eq!(said.lines().count(), 5, "{said}");
    assert_eq!((checked.status.code(), checked.stdout), (Some(2), Vec::new()));

    let (code, served) = site.refusal(&config).await;
    assert_eq!((code, served), (Some(2), said), "serve says the same");
    assert!(!site.path("data").exists());

    let good = Site::new(NOOP);
    let config = good.path("tidemill.toml");
    let checked = tidemill(&["config", "check", "--config", config.to_str().unwrap()], good.dir.path()).await;
    assert_eq!(text(&checked.stdout), format!("{}: no mistakes, 1 jobs\n", config.display()));
    let missing = tidemill(&["config", "check", "--config", "none.toml"], good.dir.path()).await;
    says(&text(&missing.stderr), &["none.toml: cannot be read: ", "name the file with --config"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[tokio::test]
async fn job_without_plugin_and_plugin_without_job_are_reported() {
    needs!(Product);
    let site = Site::new(&format!("{NOOP}[jobs.lost]\nplugin = \"lost\"\n"));
    site.install("noop", "noop");
    site.install("versioned-a", "idle");
    site.install("bad-describe", "broken");
    let host = site.serve().await;
    site.until_active("noop").await;

    let jobs = text(&site.ask(&["jobs"]).await.stdout);
    says(&jobs, &["plugin lost is not in "]);
    let json: serde_json::Value =
        serde_json::from_slice(&site.ask(&["jobs", "--output", "json"]).await.stdout).unwrap();
    let lost = json["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "lost").unwrap();
    assert_eq!(lost["blocked"], format!("plugin lost is not in {}", site.path("plugins").display()));
    let plugins = text(&site.ask(&["plugins"]).await.stdout);
    says(
        &plugins,
        &["idle", "Says which version it is.", "broken", "rejected", "describe() did not answer with"],
    );

    // The job without its plugin can be triggered; its run waits.
    assert!(site.ask(&["jobs", "trigger", "lost"]).await.status.success());
    assert!(site.ask(&["jobs", "trigger", "noop"]).await.status.success());
    site.until_items("resolved", 1).await;
    let runs: serde_json::Value =
        serde_json::from_slice(&site.ask(&["runs", "--job", "lost", "--output", "json"]).await.stdout)
            .unwrap();
    assert_eq!(runs["runs"][0]["state"], "discovering");
    site.install("noop", "lost");
    site.until_items("resolved", 2).await;
    host.terminate().await;
}

#[tokio::test]
async fn missing_plugins_folder_is_reported() {
    needs!(Product);
    let site = Site::new(NOOP);
    fs::remove_dir(site.path("plugins")).unwrap();
    let host = site.serve().await;
    let folder = site.path("plugins").display().to_string();
    site.until_said(&["plugins"], &format!("cannot read the plugins folder {folder}: No such file")).await;
    says(&text(&site.ask(&["jobs", "--output", "json"]).await.stdout), &["plugin noop is not in "]);
    fs::write(site.path("plugins"), "a file").unwrap();
    site.until_said(&["plugins"], &format!("cannot read the plugins folder {folder}: Not a directory")).await;
    fs::remove_file(site.path("plugins")).unwrap();
    site.install("noop", "noop");
    site.until_active("noop").await;
    assert!(site.ask(&["jobs", "trigger", "noop"]).await.status.success());
    site.until_items("resolved", 1).await;
    says(&site.log(), &["cannot read the plugins folder"]);
    assert!(site.log().matches("cannot read the plugins folder").count() <= 2, "it is logged once each");
    host.terminate().await;
}
