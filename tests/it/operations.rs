//! Features for operators: metrics, logs, heartbeats, self-checks, tokens, alerts, and manual recovery.

use domain::alert::{Alert, Severity};
use domain::item::State;
use jiff::SignedDuration;
use serde_json::{Value, json};
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::http;
use crate::support::jobs::demo_job;
use crate::support::plugins;
use crate::support::site::{Site, eventually, text};

on_both!(
    f5_old_audit_records_move_to_archives_that_can_be_verified,
    f6_a_job_that_misses_its_heartbeat_alerts,
    f8_metrics_have_their_names,
    f10_one_stuck_order_or_all_are_recovered_manually,
    f10_the_page_retries_acknowledges_and_runs,
    r4_hosts_that_are_gone_are_forgotten,
    s1_job_that_is_switched_off_runs_only_manually,
    s9_alerts_are_shown_acknowledged_and_removed,
);

async fn host_of(kind: Kind, names: &[&str]) -> (Databases, Host) {
    let databases = Databases::new(kind).await;
    demo::World::create(&databases.business_url).await.unwrap();
    for name in names {
        plugins::install(&databases.dir.path().join("plugins"), name, name);
    }
    let jobs = names.iter().map(|name| demo_job(name)).collect();
    let host = Host::start("one", &databases, &manual(), jobs).await;
    (databases, host)
}

async fn f5_old_audit_records_move_to_archives_that_can_be_verified(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(
        &databases.store_url,
        "audit = { retention = \"1h\", every = \"200ms\", archive_dir = \"archive\" }\n[jobs.hello]\nplugin = \"hello\"\n",
    );
    let host = site.serve().await;
    let ages = [("a", 7_200), ("b", 7_200), ("c", 7_100), ("young", 60)];
    let now = jiff::Timestamp::now().as_millisecond();
    let rows: Vec<String> = ages
        .iter()
        .map(|(id, age)| {
            format!("('{id}', {}, 'ada', 'looked', NULL, '{id}', 'an \"odd\" detail')", now - age * 1_000)
        })
        .collect();
    let insert = "INSERT INTO audit (id, at_ms, actor, action, job, subject, detail) VALUES";
    databases.store(&format!("{insert} {}", rows.join(", "))).await;
    let looked = "SELECT id FROM audit WHERE action = 'looked'";
    let moved = || async { (databases.store_texts(looked).await == ["young"]).then_some(()) };
    eventually("the old records leave the table", moved).await;

    let archive = site.path("archive");
    let run = |command: &str| {
        let output =
            std::process::Command::new("sh").args(["-c", command]).current_dir(&archive).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        text(&output.stdout)
    };
    assert!(run("sha256sum -c *.sha256").trim().ends_with(".jsonl.gz: OK"));
    let lines = run("gzip -dc *.jsonl.gz");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!((&records[0]["actor"], &records[0]["detail"]), (&json!("ada"), &json!("an \"odd\" detail")));
    let told =
        "SELECT COUNT(*) FROM audit WHERE action = 'audit_archived' AND detail LIKE '3 records; sha256 %'";
    assert_eq!(databases.store_number(told).await, 1);

    // A folder that is not writable loses nothing: records that cannot be archived stay.
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    databases.store(&format!("{insert} ('d', {}, 'ada', 'looked', NULL, 'd', '')", now - 7_000_000)).await;
    let said = || async { site.log().contains("the audit trail could not be archived").then_some(()) };
    eventually("the failure is told", said).await;
    assert_eq!(databases.store_texts(&format!("{looked} ORDER BY 1")).await, ["d", "young"]);
    host.terminate().await;
}

async fn f6_a_job_that_misses_its_heartbeat_alerts(kind: Kind) {
    let (_databases, mut host) = host_of(kind, &["lease-recovery"]).await;
    host.advance(SignedDuration::from_mins(5)).await;
    // The plugin is removed: from now on the job cannot run.
    std::fs::remove_file(host.plugins.join("lease-recovery.wasm")).unwrap();
    let job = host.app.engine.jobs()[0].clone();
    let blocked =
        move |host: &Host| matches!(host.app.engine.readiness(&job), domain::runner::Readiness::Blocked(_));
    host.until("the plugin is gone", blocked).await;
    let mut minutes = 0;
    let alert = loop {
        if let Some(alert) = host.app.store.alerts(true, 9).await.unwrap().pop() {
            break alert;
        }
        assert!(minutes < 60, "no alert after {minutes} minutes");
        host.clock.advance(SignedDuration::from_mins(1));
        minutes += 1;
        for _ in 0..3 {
            host.something().await;
        }
    };
    assert!(minutes > 10, "it was due each 5 minutes, and alerted after {minutes}");
    assert_eq!((alert.alert.kind.as_str(), alert.alert.severity), ("JOB_HEARTBEAT_MISSED", Severity::Error));
    assert!(
        alert
            .alert
            .message
            .starts_with("job lease-recovery (every 5m) has not run since 2026-03-02T10:05:00Z: "),
        "{}",
        alert.alert.message
    );
}

async fn f8_metrics_have_their_names(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["finalize-retry", "finalize-recover"]).await;
    let began = host.clock.now().as_millisecond() - 3_600_000;
    databases
        .business(&format!(
            "INSERT INTO split_order (order_id, account, amount_minor, currency, status, finalize_in_progress,
                finalize_started_at_ms, updated_at_ms) VALUES (1, 'none', 1, 'EUR', 'finalizing', 1, {began}, 1)"
        ))
        .await;
    for _ in 0..2 {
        host.minute().await;
    }
    let answer = http::get(host.app.address, "/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    for line in [
        "# TYPE job_runs_total counter",
        "job_runs_total{job=\"finalize-retry\"} ",
        "# TYPE job_duration_seconds histogram",
        "job_duration_seconds_bucket{job=\"finalize-recover\",le=\"0.1\"} ",
        "job_stuck_detected_total{job=\"finalize-recover\"} ",
        "finalize_retry_attempts_total{job=\"finalize-retry\"} ",
        "tidemill_items{job=\"finalize-retry\",state=\"awaiting\"} 1",
        "tidemill_items{job=\"finalize-retry\",state=\"pending\"} 0",
        "tidemill_task_last_success_timestamp_seconds{task=\"scheduler\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"heartbeat\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"recovery\"} ",
        "tidemill_task_last_success_timestamp_seconds{task=\"upkeep\"} ",
    ] {
        assert!(answer.body.contains(line), "{line} is not in\n{}", answer.body);
    }
    // Without its table, a discovery fails.
    databases.business("DROP TABLE split_order").await;
    host.minute().await;
    let failed = http::get(host.app.address, "/metrics").await.body;
    assert!(failed.contains("job_failures_total{job=\"finalize-recover\"} "), "{failed}");
}

async fn f10_one_stuck_order_or_all_are_recovered_manually(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["finalize-retry", "finalize-recover"]).await;
    let began = host.clock.now().as_millisecond() - 3_600_000;
    let order = |id: u32| {
        format!(
            "INSERT INTO split_order (order_id, account, amount_minor, currency, status, finalize_in_progress,
                finalize_started_at_ms, updated_at_ms) VALUES ({id}, 'acme', 1, 'EUR', 'finalizing', 1, {began}, 1);"
        )
    };
    let account = "INSERT INTO payout_account (account, state) VALUES ('acme', 'open');";
    databases.business(&[account.to_owned(), order(1), order(2), order(3)].concat()).await;
    let add =
        async |body: &str| http::post(host.app.address, "/api/v1/jobs/finalize-recover/items", body).await;
    let added = add("{\"key\": \"2\"}").await;
    assert_eq!(added.status, 201, "{}", added.body);
    for (body, code) in
        [("{\"key\": \"\"}", "bad-body"), ("{}", "bad-body"), ("{\"key\": \"a\\n\"}", "bad-body")]
    {
        assert_eq!(add(body).await.code(), code, "{body}");
    }
    let finalized = "SELECT COUNT(*) FROM split_order WHERE status = 'finalized' AND stuck_recoveries = 1";
    while databases.business_number(finalized).await == 0 {
        host.something().await;
    }
    host.settle().await;
    let only = format!("{finalized} AND order_id = 2");
    assert_eq!(
        databases.business_number(finalized).await,
        1,
        "no tick was due: only the one that was asked for"
    );
    assert_eq!(databases.business_number(&only).await, 1);

    assert_eq!(http::post(host.app.address, "/api/v1/jobs/finalize-recover", "{}").await.status, 201);
    while databases.business_number(finalized).await < 3 {
        host.something().await;
    }
    let actions = "SELECT COUNT(*) FROM audit WHERE action = 'split-order-finalize-stuck-recovered'";
    assert_eq!(databases.store_number(actions).await, 3);
    let by_hand =
        "SELECT COUNT(*) FROM audit WHERE action = 'item_added' AND actor = 'local' AND subject = '2'";
    assert_eq!(databases.store_number(by_hand).await, 1);
}

async fn r4_hosts_that_are_gone_are_forgotten(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["hello"]).await;
    if kind == Kind::Postgres {
        let two = Host::start("two", &databases, &host.clock, vec![job("hello")]).await;
        two.app.stop().await;
    } else {
        let row = "INSERT INTO host (id, name, started_at_ms, heartbeat_at_ms)
            VALUES ('0190163d-8694-739b-aea5-966c26f8ad91', 'two', 1, 1772445600000)";
        databases.store(row).await;
    }
    assert_eq!(host.app.store.hosts(9).await.unwrap().len(), 2);
    host.advance(SignedDuration::from_hours(6 * 24)).await;
    assert_eq!(host.app.store.hosts(9).await.unwrap().len(), 2, "it may come back");
    let mut left = 2;
    for _ in 0..100 {
        host.advance(SignedDuration::from_hours(24)).await;
        left = host.app.store.hosts(9).await.unwrap().len();
        if left == 1 {
            break;
        }
    }
    assert_eq!(left, 1);
    let forgotten =
        databases.store_number("SELECT COUNT(*) FROM audit WHERE action = 'host_forgotten'").await;
    assert_eq!(forgotten, 1);
}

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

async fn s9_alerts_are_shown_acknowledged_and_removed(kind: Kind) {
    let (_databases, mut host) = host_of(kind, &["hello"]).await;
    let hello = "hello".parse().unwrap();
    let alert = Alert {
        kind: "STOCK_REPLENISH_FAILED".to_owned(),
        key: "run 1".to_owned(),
        severity: Severity::Error,
        message: "2 campaigns <b>failed</b>".to_owned(),
        metadata: "no JSON".to_owned(),
    };
    host.app.store.raise_alert(&hello, &alert, host.clock.now()).await.unwrap();
    let page = http::get(host.app.address, "/").await.body;
    assert!(
        page.contains("STOCK_REPLENISH_FAILED") && page.contains("2 campaigns &#60;b&#62;failed"),
        "{page}"
    );
    let open = http::get(host.app.address, "/api/v1/alerts?open=true").await.json();
    let [told] = open["alerts"].as_array().unwrap().as_slice() else { panic!("{open}") };
    assert_eq!((&told["times"], &told["metadata"]), (&json!(1), &json!("no JSON")));

    let acknowledge = format!("/api/v1/alerts/{}/acknowledge", told["id"].as_str().unwrap());
    let done = http::post(host.app.address, &acknowledge, "{}").await;
    assert_eq!((done.status, &done.json()["acknowledged_by"]), (200, &json!("local")), "{}", done.body);
    let again = http::post(host.app.address, &acknowledge, "{}").await;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    let unknown = http::post(host.app.address, "/api/v1/alerts/7/acknowledge", "{}").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "not-found"));
    let open = http::get(host.app.address, "/api/v1/alerts?open=true").await.json();
    assert_eq!(open["alerts"], json!([]));

    // Days that pass in a moment make jobs late, which raises an alert too.
    let all = async |host: &Host| {
        let alerts = host.app.store.alerts(false, 9).await.unwrap();
        alerts.iter().filter(|found| found.alert.kind == alert.kind).count()
    };
    host.advance(SignedDuration::from_hours(29 * 24)).await;
    assert_eq!(all(&host).await, 1);
    let mut days = 29;
    while all(&host).await > 0 {
        host.advance(SignedDuration::from_hours(24)).await;
        days += 1;
        assert!(days < 100, "it is still there");
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_host_keeps_its_id_over_restarts() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = Site::with_store(&databases.store_url, "[jobs.hello]\nplugin = \"hello\"\n");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let host = site.serve().await;
        let hosts = http::get(site.address, "/api/v1/hosts").await.json();
        let this =
            hosts["hosts"].as_array().unwrap().iter().find(|host| host["this"] == true).unwrap().clone();
        seen.push(this["id"].as_str().unwrap().to_owned());
        host.kill9().await;
    }
    assert_eq!(seen[0], seen[1]);
    let kept = std::fs::read_to_string(site.path("data/host-id")).unwrap();
    assert_eq!(kept.trim(), seen[0], "a person can read it");
    let other = crate::support::process::Process::spawn(&site.write("other.toml", "other"), site.address);
    let mut other = other;
    other.ready().await;
    let hosts = http::get(site.address, "/api/v1/hosts").await.json();
    assert_eq!(hosts["hosts"].as_array().unwrap().len(), 2, "another data folder is another host: {hosts}");
    other.terminate().await;
}

/// Another host recovers the work of a killed host only when `recover` is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_r7_manual_recovery_lists_the_moved_items() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let site = Site::with_store(
        &databases.store_url,
        "engine.recovery_every = \"1h\"\n[jobs.sleeper]\nplugin = \"sleeper\"\nconcurrency = 4\n\
         config = { count = 3, ms = 30000 }\n",
    );
    site.install("sleeper", "sleeper");
    let host = site.serve().await;
    site.until_active("sleeper").await;
    http::post(site.address, "/api/v1/jobs/sleeper", "{}").await;
    site.until_items("running", 3).await;
    host.kill9().await;

    let config = site.write("other.toml", "other");
    let mut other = crate::support::process::Process::spawn(&config, site.address);
    other.ready().await;
    let moved = || async {
        let answer = site.ask(&["recover", "--output", "json"]).await;
        let answer: Value = serde_json::from_str(&text(&answer.stdout)).unwrap();
        let items = answer["items"].as_array().unwrap().clone();
        (!items.is_empty()).then_some(items)
    };
    let mut items = eventually("the leases of the dead host end", moved).await;
    items.sort_by_key(|item| item["key"].to_string());
    let keys: Vec<_> = items.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["s-1", "s-2", "s-3"]);
    assert_eq!((&items[0]["state"], &items[0]["crashes"]), (&json!("waiting"), &json!(1)));
    let audited =
        "SELECT COUNT(*) FROM audit WHERE action = 'recovered_by_hand' AND detail = '3 items put back'";
    assert_eq!(databases.store_number(audited).await, 1);
    site.until_items("running", 3).await;
    other.kill9().await;
}

/// A row that cannot be recovered does not prevent a start; it is recovered as soon as possible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_recovery_that_fails_does_not_stop_the_start() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let site = Site::with_store(
        &databases.store_url,
        "engine.recovery_every = \"200ms\"\n[jobs.hello]\nplugin = \"hello\"\nconfig = { names = \"Ada\" }\n",
    );
    site.install("hello", "hello");
    let host = site.serve().await;
    site.until_active("hello").await;
    http::post(site.address, "/api/v1/jobs/hello", "{}").await;
    site.until_items("resolved", 1).await;
    host.terminate().await;
    databases
        .store(
            "UPDATE item SET state = 'running', host_id = (SELECT id FROM host), attempt_id = id, epoch = 9,
                claimed_at_ms = 1, lease_until_ms = 1;
            CREATE TRIGGER stubborn BEFORE UPDATE ON item BEGIN SELECT RAISE(ABORT, 'not now'); END",
        )
        .await;
    let host = site.serve().await;
    assert_eq!(http::get(site.address, "/readyz").await.status, 200);
    let log = site.log();
    assert!(
        log.contains("recovery at the start failed; it is tried again") && log.contains("not now"),
        "{log}"
    );
    databases.store("DROP TRIGGER stubborn").await;
    site.until_items("resolved", 1).await;
    let item = http::get(site.address, "/api/v1/items/hello/Ada").await.json();
    let verdicts: Vec<_> = item["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["resolved", "lost", "resolved"]);
    assert_eq!(item["item"]["state"], State::Resolved.as_str());
    host.terminate().await;
}

/// The page's buttons, with requests as a browser sends them: each works, and is in the audit trail.
async fn f10_the_page_retries_acknowledges_and_runs(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["finalize-retry", "finalize-recover", "ledger-outbox"]).await;
    let posting = "INSERT INTO ledger_outbox (posting_key, order_id, account, amount_minor, currency, status,
        created_at_ms) VALUES ('a/b?c', 1, 'acme', -1, 'EUR', 'pending', 1);";
    databases.business(posting).await;
    let address = host.app.address;
    let page = async || http::get(address, "/").await.body;
    let options = page().await;
    for job in ["finalize-recover", "finalize-retry", "ledger-outbox"] {
        assert!(options.contains(&format!("<option>{job}</option>")), "{options}");
    }
    assert_eq!(http::post(address, "/api/v1/jobs/ledger-outbox", "{}").await.status, 201);
    host.settle().await;
    assert_eq!(host.item("ledger-outbox", "a/b?c").await.state, State::ManualRequired);

    let press = async |id: &str| {
        let page = page().await;
        let (before, _) = page
            .split_once(&format!("id=\"{id}"))
            .map_or(("", ""), |(_, after)| after.split_once("</button>").unwrap_or_default());
        let path = before.split("data-post=\"").nth(1).and_then(|rest| rest.split('"').next());
        let path = path.unwrap_or_else(|| panic!("no button {id} in {page}"));
        http::post(address, path, "{}").await
    };
    assert_eq!(press("alert-").await.status, 200);
    assert!(host.app.store.alerts(true, 9).await.unwrap().is_empty());
    databases.business("UPDATE ledger_outbox SET amount_minor = 1;").await;
    assert_eq!(press("retry-").await.status, 200);
    host.settle().await;
    assert_eq!(host.item("ledger-outbox", "a/b?c").await.state, State::Resolved);
    let recovered = page().await;
    assert!(recovered.contains("data-post=\"/api/v1/recover\""), "{recovered}");
    let actions = ["alert_acknowledged", "retried_by_hand"];
    for action in actions {
        let found = format!("SELECT COUNT(*) FROM audit WHERE action = '{action}' AND actor = 'local'");
        assert_eq!(databases.store_number(&found).await, 1, "{action}");
    }
}
