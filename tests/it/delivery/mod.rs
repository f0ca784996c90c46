//! Delivery of events: at least once and in order per key, dead letters and their redrive. These tests use a
//! webhook or a table.

mod brokers;

use std::ops::Range;

use domain::id::EventId;
use jiff::Timestamp;
use serde_json::{Value, json};
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, eventually, text};
use crate::support::webhook::{Mood, Webhook};
use crate::support::{http, process::Process};

on_both!(
    f1_events_of_a_key_arrive_in_their_order,
    f12_dead_letters_are_listed_and_redriven,
    events_go_into_a_table_once,
    refused_row_stops_only_its_key,
    arrays_of_events_arrive_in_order,
);

const JOB: &str = "[jobs.ledger-outbox]\nplugin = \"ledger-outbox\"\nconcurrency = 1\nconfig = { batch_size = 500 }\n\
    grants = { sql = { business = \"read-write\" }, events = [\"LedgerPosting\"] }\n";

/// Keys of `add_events`.
const KEYS: u32 = 12;

fn posting(n: u32, account: &str) -> String {
    format!(
        "INSERT INTO ledger_outbox (posting_key, order_id, account, amount_minor, currency, status, created_at_ms)
        VALUES ('p-{n:03}', {n}, '{account}', 100, 'EUR', 'pending', {n});"
    )
}

/// A host with these postings and this sink, whose job was triggered.
async fn begun(databases: &Databases, postings: &[(u32, &str)], sink: &str) -> (Site, Process) {
    demo::World::create(&databases.business_url).await.unwrap();
    let site = Site::with_store(
        &databases.store_url,
        &format!("[datasources.business]\nurl = \"{}\"\n{JOB}[sinks.ledger]\n{sink}", databases.business_url),
    );
    site.install("ledger-outbox", "ledger-outbox");
    let host = site.serve().await;
    site.until_active("ledger-outbox").await;
    post(databases, &site, postings).await;
    (site, host)
}

/// Adds postings, and triggers a run that publishes them.
async fn post(databases: &Databases, site: &Site, postings: &[(u32, &str)]) {
    let rows: String = postings.iter().map(|(n, account)| posting(*n, account)).collect();
    databases.business(&rows).await;
    assert_eq!(http::post(site.address, "/api/v1/jobs/ledger-outbox", "{}").await.status, 201);
}

/// As `begun`, and waits until all events are published.
async fn published(databases: &Databases, postings: &[(u32, &str)], sink: &str) -> (Site, Process) {
    let (site, host) = begun(databases, postings, sink).await;
    site.until_items("resolved", u64::try_from(postings.len()).unwrap()).await;
    (site, host)
}

async fn dead_letter(site: &Site) -> Value {
    let dead = || async {
        let dead = http::get(site.address, "/api/v1/outbox/dead").await.json();
        (!dead["events"].as_array().unwrap().is_empty()).then(|| dead["events"][0].clone())
    };
    eventually("a dead letter", dead).await
}

fn to(webhook: &Webhook, more: &str) -> String {
    format!(
        "topics = [\"LedgerPosting\"]\nwebhook = \"http://{}/hook\"\ntimeout = \"2s\"\n{more}",
        webhook.address
    )
}

/// Postings of three accounts in rotation.
fn in_turn(count: u32) -> Vec<(u32, &'static str)> {
    (0..count).map(|n| (n, ["acme", "blue", "cedar"][n as usize % 3])).collect()
}

/// Adds events with these numbers to the outbox, for a dozen keys in rotation, as a job would have published them.
async fn add_events(databases: &Databases, numbers: Range<u32>) {
    let row = |n: u32| {
        let (id, key) = (EventId::new(Timestamp::now()), n % KEYS);
        format!(
            "('{id}', {n}, 'LedgerPosting', 'key-{key:02}', '{{\"posting_key\":\"p-{n:04}\"}}', 'ledger-outbox', '', 0, {n})"
        )
    };
    let rows: Vec<String> = numbers.map(row).collect();
    for rows in rows.chunks(500) {
        let add = "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms) VALUES";
        databases.store(&format!("{add} {}", rows.join(", "))).await;
    }
}

/// The postings of a key among the first `count` events of `add_events`.
fn postings_of(key: u32, count: u32) -> Vec<String> {
    (key..count).step_by(KEYS as usize).map(|n| format!("p-{n:04}")).collect()
}

async fn until_delivered(databases: &Databases, events: i64) {
    let delivered = || async {
        let count =
            databases.store_number("SELECT COUNT(*) FROM event WHERE delivered_at_ms IS NOT NULL").await;
        (count == events).then_some(())
    };
    eventually(&format!("{events} delivered events"), delivered).await;
}

/// Postings of an account in the order of their first arrival: an event with a late answer is sent again.
fn keys(events: &[Value], account: &str) -> Vec<String> {
    let of_account = events.iter().filter(|event| event["key"] == account);
    let mut seen = std::collections::BTreeSet::new();
    let first = of_account.filter(|event| seen.insert(event["id"].to_string()));
    first.map(|event| event["payload"]["posting_key"].as_str().unwrap().to_owned()).collect()
}

/// The webhook fails once in each way and then works: nothing is lost, and no event overtakes another.
async fn f1_events_of_a_key_arrive_in_their_order(kind: Kind) {
    let databases = Databases::new(kind).await;
    let moods = [Mood::Refuses, Mood::Rubbish, Mood::Closes, Mood::Redirects, Mood::Hangs];
    let webhook = Webhook::start(&moods).await;
    let (_site, host) = published(&databases, &in_turn(30), &to(&webhook, "")).await;
    until_delivered(&databases, 30).await;
    let taken = webhook.taken();
    for (at, account) in ["acme", "blue", "cedar"].into_iter().enumerate() {
        let expected: Vec<String> = (0..10).map(|n| format!("p-{:03}", n * 3 + at)).collect();
        assert_eq!(keys(&taken, account), expected, "all, in order");
    }
    let first = &taken[0];
    for field in ["id", "topic", "key", "job", "created_at", "try", "payload"] {
        assert!(!first[field].is_null(), "{field} in {first}");
    }
    host.terminate().await;
}

/// `tls.ca_file` makes the host trust the receiver's self-signed certificate.
#[tokio::test]
async fn f1_events_go_over_https() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let (webhook, certificate) = Webhook::start_tls().await;
    let file = databases.dir.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let sink = format!(
        "topics = [\"LedgerPosting\"]\nwebhook = \"https://localhost:{}/hook\"\n[tls]\nca_file = {file:?}\n",
        webhook.address.port()
    );
    let (site, host) = published(&databases, &[(1, "acme")], &sink).await;
    until_delivered(&databases, 1).await;
    assert_eq!(keys(&webhook.taken(), "acme"), ["p-001"]);
    let shown = site.ask_here(&["config", "show"]).await;
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("[tls]\nca_file = {file:?}")), "{shown}");
    host.terminate().await;
}

async fn f12_dead_letters_are_listed_and_redriven(kind: Kind) {
    let databases = Databases::new(kind).await;
    let webhook = Webhook::start(&[]).await;
    webhook.refuse_key(Some("blue"));
    let postings = [(1, "acme"), (2, "blue"), (3, "acme")];
    let (site, host) = published(&databases, &postings, &to(&webhook, "tries_max = 2\n")).await;
    let letter = dead_letter(&site).await;
    assert_eq!((&letter["key"], &letter["tries"]), (&json!("blue"), &json!(2)));
    assert_eq!(letter["error"], "it answered with status 503: not now");
    until_delivered(&databases, 2).await;
    assert_eq!(keys(&webhook.taken(), "acme"), ["p-001", "p-003"], "one key's trouble is not another's");
    let alerts = http::get(site.address, "/api/v1/alerts?open=true").await.json();
    assert_eq!(
        (&alerts["alerts"][0]["kind"], &alerts["alerts"][0]["key"]),
        (&json!("EVENTS_DEAD"), &json!("LedgerPosting"))
    );
    let page = http::get(site.address, "/").await.body;
    assert!(page.contains("Dead letters") && page.contains("it answered with status 503: not now"), "{page}");
    let table = text(&site.ask(&["outbox", "dead"]).await.stdout);
    assert!(table.contains("blue") && table.contains("LedgerPosting"), "{table}");

    // The receiver works again.
    webhook.refuse_key(None);
    let said = text(&site.ask(&["outbox", "redrive"]).await.stdout);
    assert_eq!(said, "1 dead events are sent again\n");
    until_delivered(&databases, 3).await;
    assert_eq!(keys(&webhook.taken(), "blue"), ["p-002"]);
    let none = http::get(site.address, "/api/v1/outbox/dead").await.json();
    assert_eq!(none["events"], json!([]));
    let unknown = http::post(site.address, "/api/v1/outbox/redrive", "{\"ids\": [\"7\"]}").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "bad-body"));
    host.terminate().await;
}

/// The receiver verifies signatures as third parties do. With a wrong key, the dead letter gives the reason;
/// with the right one, the redrive succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_signed() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let (old, new) = ("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk");
    let webhook = Webhook::start(&[]).await;
    webhook.demand_signature(new);
    let key = databases.dir.path().join("key");
    std::fs::write(&key, old).unwrap();
    let sink = to(
        &webhook,
        &format!("signed_with = \"key\"\ntries_max = 1\n[secrets]\nkey = {{ file = {key:?} }}\n"),
    );
    let (site, host) = published(&databases, &[(1, "acme")], &sink).await;
    let letter = dead_letter(&site).await;
    assert_eq!(letter["error"], "it answered with status 401: signature invalid");
    host.terminate().await;

    std::fs::write(&key, format!("{new}\n")).unwrap();
    let host = site.serve().await;
    site.ask(&["outbox", "redrive"]).await;
    until_delivered(&databases, 1).await;
    assert_eq!(keys(&webhook.taken(), "acme"), ["p-001"]);
    let log = site.log();
    assert!(!log.contains(&old[6..]) && !log.contains(&new[6..]), "{log}");
    host.terminate().await;
}

/// The receiver of one sink accepts the request and never answers. Meanwhile another sink's events arrive,
/// and a stop does not wait for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_sink_delays_no_other() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let webhook = Webhook::start(&[Mood::Hangs, Mood::Hangs]).await;
    let sinks = format!(
        "topics = [\"LedgerPosting\"]\nwebhook = \"http://{}/hook\"\ntimeout = \"5m\"\n\
         [sinks.other]\ntopics = [\"Other\"]\ntable = \"event_inbox\"\ndatasource = \"business\"\n",
        webhook.address
    );
    let (_site, host) = published(&databases, &[(1, "acme"), (2, "blue")], &sinks).await;
    // One request or two: events that are published a moment later wait for the hanging sink.
    eventually("a request that hangs", || async { (webhook.hanging() > 0).then_some(()) }).await;
    databases.store("UPDATE event SET topic = 'Other', due_at_ms = 0 WHERE event_key = 'blue'").await;
    until_delivered(&databases, 1).await;
    assert_eq!(databases.business_texts("SELECT event_key FROM event_inbox").await, ["blue"]);
    assert!(webhook.hanging() > 0, "still");
    host.terminate().await;
}

async fn events_go_into_a_table_once(kind: Kind) {
    let databases = Databases::new(kind).await;
    let sink = "topics = [\"LedgerPosting\"]\ntable = \"event_inbox\"\ndatasource = \"business\"\n";
    let (_site, host) = published(&databases, &[(1, "acme"), (2, "blue")], sink).await;
    until_delivered(&databases, 2).await;
    // An event whose acknowledgement was lost is sent again, and changes nothing.
    databases.store("UPDATE event SET delivered_at_ms = NULL, due_at_ms = 0").await;
    until_delivered(&databases, 2).await;
    assert_eq!(databases.business_number("SELECT COUNT(*) FROM event_inbox").await, 2);
    let keys = databases.business_texts("SELECT event_key FROM event_inbox ORDER BY 1").await;
    assert_eq!(keys, ["acme", "blue"]);
    host.terminate().await;
}

/// The table refuses the events of one key. All others are inserted, although a claim has events of many keys.
async fn refused_row_stops_only_its_key(kind: Kind) {
    let databases = Databases::new(kind).await;
    databases
        .business(
            "CREATE TABLE strict_inbox (id TEXT PRIMARY KEY, topic TEXT, event_key TEXT CHECK (event_key <> 'key-03'),
                payload TEXT, job TEXT, created_at_ms BIGINT)",
        )
        .await;
    let sink =
        "topics = [\"LedgerPosting\"]\ntable = \"strict_inbox\"\ndatasource = \"business\"\ntries_max = 1\n";
    let (site, host) = begun(&databases, &[], sink).await;
    add_events(&databases, 0..120).await;
    until_delivered(&databases, 110).await;
    let given_up = || async {
        let dead = databases.store_number("SELECT COUNT(*) FROM event WHERE dead_at_ms IS NOT NULL").await;
        (dead == 10).then_some(())
    };
    eventually("the dead letters of the key", given_up).await;
    let letter = dead_letter(&site).await;
    let error = letter["error"].as_str().unwrap();
    // Postgres names the table, and SQLite the condition.
    assert!(error.contains("strict_inbox") || error.contains("CHECK constraint failed"), "{error}");
    assert_eq!(databases.business_number("SELECT COUNT(*) FROM strict_inbox").await, 110);
    host.terminate().await;
}

/// The receiver refuses each array with an event of one key for a while: the others get through, and none overtakes
/// another of its key.
async fn arrays_of_events_arrive_in_order(kind: Kind) {
    let databases = Databases::new(kind).await;
    let webhook = Webhook::start(&[Mood::Refuses, Mood::Closes]).await;
    webhook.refuse_key(Some("key-03"));
    let (_site, host) = begun(&databases, &[], &to(&webhook, "batch = 5\n")).await;
    add_events(&databases, 0..120).await;
    until_delivered(&databases, 110).await;
    webhook.refuse_key(None);
    until_delivered(&databases, 120).await;
    let taken = webhook.taken();
    for key in 0..KEYS {
        assert_eq!(keys(&taken, &format!("key-{key:02}")), postings_of(key, 120), "all, in order");
    }
    let sizes = webhook.sizes();
    assert!(sizes.iter().all(|size| *size <= 5) && sizes.iter().any(|size| *size > 1), "{sizes:?}");
    host.terminate().await;
}

/// A dozen failing items cause one notice, and so does an alert that is raised repeatedly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_notices_of_alerts_do_not_flood() {
    needs!(Product);
    let webhook = Webhook::start(&[]).await;
    let site = Site::new(&format!(
        "[jobs.witness]\nplugin = \"flaky\"\n[jobs.other]\nplugin = \"flaky\"\nconfig = {{ payload = '{{\"permanent\":true}}' }}\n\
         failed_alert = {{ kind = \"OTHER_FAILED\" }}\n\
         [sinks.pager]\ntopics = [\"tidemill.alert\"]\nwebhook = \"http://{}/hook\"\n",
        webhook.address
    ));
    site.install("flaky", "flaky");
    let host = site.serve().await;
    site.until_active("flaky").await;
    let add = async |id: &str, count: usize| {
        let items = vec![json!({ "operation": "any", "payload": { "permanent": true } }); count];
        let body = json!({ "id": id, "job": "witness", "items": items });
        let answer = http::post(site.address, "/api/v1/batches", &body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    };
    add("a", 12).await;
    let reported = |count: usize| {
        let webhook = &webhook;
        move || async move { (webhook.taken().len() >= count).then_some(()) }
    };
    eventually("the notice", reported(1)).await;
    // The alert is counted further, and another one is raised: only the other one causes a notice.
    add("b", 5).await;
    site.until_items("manual_required", 17).await;
    http::post(site.address, "/api/v1/jobs/other", "{}").await;
    eventually("the other notice", reported(2)).await;
    let notices = webhook.taken();
    let seen: Vec<_> = notices.iter().map(|notice| notice["payload"]["kind"].as_str().unwrap()).collect();
    assert_eq!(seen, ["ITEMS_FAILED", "OTHER_FAILED"]);
    let first = &notices[0]["payload"];
    assert_eq!(
        (&first["times"], &first["severity"], &first["job"]),
        (&json!(12), &json!("error"), &json!("witness"))
    );
    assert!(first["message"].as_str().unwrap().starts_with("12 of witness failed for good: "), "{first}");

    // Acknowledged and raised again, the alert causes a new notice.
    let open = http::get(site.address, "/api/v1/alerts?open=true").await.json();
    let alerts = open["alerts"].as_array().unwrap();
    let witness = alerts.iter().find(|alert| alert["job"] == "witness").unwrap();
    assert_eq!(witness["times"], 17);
    let path = format!("/api/v1/alerts/{}/acknowledge", witness["id"].as_str().unwrap());
    assert_eq!(http::post(site.address, &path, "{}").await.status, 200);
    add("c", 1).await;
    eventually("the third notice", reported(3)).await;
    assert_eq!(webhook.taken()[2]["payload"]["times"], 1);
    host.terminate().await;
}
