//! Trying a version before it runs: earlier attempts are repeated with the command line of a real process.
//! The only traces are the answer and one audit record.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::{needs, on_both};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::database::{Databases, Kind};
use crate::support::process::Process;
use crate::support::site::{Site, eventually, items, text};
use crate::support::{http, plugins};

on_both!(
    differences_are_reported_and_nothing_is_kept,
    replay_neither_waits_for_others_nor_delays_them,
    replay_that_holds_locks_for_long_is_cut_off,
    work_continues_beside_replays,
);

const ITEMS: u64 = 5;

fn file(name: &str) -> String {
    plugins::file(name).to_str().unwrap().to_owned()
}

/// A host whose job `witness` has done its five items.
async fn witness(databases: &Databases) -> (Site, Process) {
    witness_with(databases, ITEMS, "").await
}

/// The same with `items` items and additional config.
async fn witness_with(databases: &Databases, items: u64, config: &str) -> (Site, Process) {
    let table = "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)";
    databases.business(table).await;
    let job = format!(
        "[datasources.witness]\nurl = \"{}\"\n\
         [jobs.witness]\nplugin = \"witness\"\n[jobs.witness.config]\ncount = {items}\n{config}\n\
         [jobs.witness.grants]\nsql = {{ witness = \"read-write\" }}\nevents = [\"witness\"]\nkeyvalue = true\n",
        databases.business_url
    );
    let site = Site::with_store(&databases.store_url, &job);
    site.install("witness", "witness");
    let host = site.serve().await;
    site.until_active("witness").await;
    assert!(site.ask(&["jobs", "trigger", "witness"]).await.status.success());
    site.until_items("resolved", items).await;
    (site, host)
}

async fn replay(site: &Site, built_as: &str, job: &str, more: &[&str]) -> Output {
    let file = file(built_as);
    site.ask(&[&["plugins", "replay", &file, "--job", job], more].concat()).await
}

async fn replay_json(site: &Site, built_as: &str, job: &str) -> (Option<i32>, Value) {
    let output = replay(site, built_as, job, &["--output", "json"]).await;
    let said = text(&output.stdout);
    let answer =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}{}", text(&output.stderr)));
    (output.status.code(), answer)
}

/// The content of every table that an attempt can write to.
async fn all(databases: &Databases) -> Vec<Vec<String>> {
    let tables = [
        "SELECT item_key || state || CAST(version AS TEXT) FROM item ORDER BY 1",
        "SELECT item_id || CAST(epoch AS TEXT) FROM attempt ORDER BY 1",
        "SELECT id || payload FROM event ORDER BY 1",
        "SELECT job || kv_key || CAST(updated_at_ms AS TEXT) FROM kv ORDER BY 1",
        "SELECT name || CAST(token AS TEXT) FROM named_lock ORDER BY 1",
        "SELECT kind || alert_key FROM alert ORDER BY 1",
        "SELECT digest || state FROM plugin_version ORDER BY 1",
        "SELECT digest FROM plugin_file ORDER BY 1",
        "SELECT actor || action || subject FROM audit WHERE action <> 'plugin_replayed' ORDER BY at_ms, id",
    ];
    let mut all = Vec::new();
    for table in tables {
        all.push(databases.store_texts(table).await);
    }
    let business = "SELECT item_key || idempotency_key || CAST(epoch AS TEXT) FROM witness ORDER BY 1";
    all.push(databases.business_texts(business).await);
    all
}

async fn differences_are_reported_and_nothing_is_kept(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (site, host) = witness(&databases).await;
    // So that the statement inserts a row again.
    databases.business("DELETE FROM witness WHERE item_key = 'w-0000002'").await;
    let before = all(&databases).await;

    let same = replay(&site, "witness", "witness", &[]).await;
    let said = text(&same.stdout);
    assert_eq!(same.status.code(), Some(0), "{said}{}", text(&same.stderr));
    assert!(said.contains("5 attempts, 0 with another outcome, 0 with other effects, CPU x "), "{said}");

    let (code, answer) = replay_json(&site, "witness-b", "witness").await;
    assert_eq!(code, Some(1));
    let summary = &answer["summary"];
    assert_eq!(
        (&summary["attempts"], &summary["different_outcomes"], &summary["different_effects"]),
        (&5.into(), &0.into(), &5.into()),
        "{answer}"
    );
    for attempt in answer["attempts"].as_array().unwrap() {
        assert_eq!(attempt["recorded"]["note"], "inserted 1", "{attempt}");
        let rows = u64::from(attempt["item"] == "w-0000002");
        let note = format!("inserted {rows}");
        for (made, called) in [(&attempt["now"], "witness"), (&attempt["new"], "witness-b")] {
            assert_eq!((&made["outcome"], &made["note"]), (&"resolved".into(), &note.as_str().into()));
            let effects = made["effects"].as_array().unwrap();
            assert_eq!(effects.iter().map(|one| &one["kind"]).collect::<Vec<_>>(), ["sql", "kv", "event"]);
            assert_eq!((&effects[0]["statement"], &effects[0]["rows"]), (&"insert".into(), &rows.into()));
            assert_eq!(effects[0]["params"][0], attempt["item"]);
            let payload: Value = serde_json::from_str(effects[2]["payload"].as_str().unwrap()).unwrap();
            assert_eq!(payload["version"], called);
            assert!(made["cost"]["cpu_us"].as_u64() > Some(0) && made["cost"]["host_calls"] == 3, "{made}");
        }
        assert_eq!(attempt["effects_differ"], serde_json::json!(["event", "kv"]));
    }
    let table = text(&replay(&site, "witness-b", "witness", &["--last", "1"]).await.stdout);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "header, one attempt, summary: {table}");
    assert!(rows[0].trim().starts_with("ITEM") && rows[1].contains("event, kv"), "{table}");

    assert_eq!(all(&databases).await, before);
    let reported = "SELECT actor || ' ' || job || ' ' || subject FROM audit WHERE action = 'plugin_replayed'";
    assert_eq!(databases.store_texts(reported).await, ["local witness witness"; 3]);
    host.terminate().await;
}

/// While another session holds the table, a replay that needs it soon reports that, and the host works on.
async fn replay_neither_waits_for_others_nor_delays_them(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (site, host) = witness(&databases).await;
    let before = all(&databases).await;
    let held = databases.hold_business("witness").await;
    let (code, answer) = replay_json(&site, "witness", "witness").await;
    held.release().await;
    assert_eq!(code, Some(0), "both versions met it: {answer}");
    for attempt in answer["attempts"].as_array().unwrap() {
        for made in [&attempt["now"], &attempt["new"]] {
            assert_eq!((&made["outcome"], &made["effects"]), (&"failed".into(), &Value::Array(Vec::new())));
            assert!(made["cost"]["wall_us"].as_u64() < Some(4_000_000), "{made}");
        }
    }
    assert_eq!(all(&databases).await, before);

    // The replay released its locks: the same statement works at once.
    let (code, answer) = replay_json(&site, "witness", "witness").await;
    assert_eq!((code, &answer["attempts"][0]["now"]["outcome"]), (Some(0), &"resolved".into()));
    databases.business("DELETE FROM witness").await;
    assert_eq!(databases.business_number("SELECT COUNT(*) FROM witness").await, 0);
    host.terminate().await;
}

/// The plugin writes and then waits: the replay is cut off, so that real work does not wait for that twice.
async fn replay_that_holds_locks_for_long_is_cut_off(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (site, host) = witness_with(&databases, 1, "hold_ms = 2500").await;
    let before = all(&databases).await;
    let began = Instant::now();
    let output = replay(&site, "witness-b", "witness", &[]).await;
    let took = began.elapsed();
    let said = text(&output.stdout);
    let words: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        words[1..8],
        ["resolved:", "inserted", "1", "failed:", "replay-cut-off", "failed:", "replay-cut-off"],
        "{said}"
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(took > Duration::from_secs(4), "two seconds each: {took:?}");
    assert_eq!(all(&databases).await, before);
    databases.business("DELETE FROM witness").await;
    host.terminate().await;
}

/// The count would be wrong if it included a replay's increment, or if a replay prevented a real one.
async fn work_continues_beside_replays(kind: Kind) {
    const COUNTS: u64 = 60;
    let databases = Databases::new(kind).await;
    databases.business("CREATE TABLE counter (n BIGINT); INSERT INTO counter (n) VALUES (0)").await;
    let site = Site::with_store(
        &databases.store_url,
        &format!(
            "[datasources.business]\nurl = \"{}\"\n\
             [jobs.counter]\nplugin = \"counter\"\nconcurrency = 1\nconfig.count = \"{COUNTS}\"\nconfig.work_ms = \"10\"\n\
             [jobs.counter.grants]\nsql = {{ business = \"read-write\" }}\nlocks = [\"counter\"]\nkeyvalue = true\n",
            databases.business_url
        ),
    );
    site.install("counter", "counter");
    let host = site.serve().await;
    site.until_active("counter").await;
    assert!(site.ask(&["jobs", "trigger", "counter"]).await.status.success());
    let resolved = async || {
        let jobs = http::get(site.address, "/api/v1/jobs").await.json();
        items(&jobs, "resolved")
    };
    let mut beside = 0;
    while resolved().await < COUNTS {
        let (code, answer) = replay_json(&site, "counter", "counter").await;
        assert!(code == Some(0) || code == Some(1), "{answer}");
        for attempt in answer["attempts"].as_array().unwrap() {
            beside += u64::from(attempt["new"]["outcome"] == "resolved");
        }
    }
    assert!(beside > 0, "some were made again meanwhile");
    assert_eq!(databases.business_number("SELECT n FROM counter").await, i64::try_from(COUNTS).unwrap());
    assert_eq!(databases.store_number("SELECT COUNT(*) FROM attempt WHERE verdict <> 'resolved'").await, 0);
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_outcome_is_reported() {
    needs!(Product);
    let site = Site::new("[jobs.versioned]\nplugin = \"versioned\"\n");
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    site.until_active("versioned").await;
    let none = replay(&site, "versioned-b", "versioned", &[]).await;
    assert_eq!((none.status.code(), text(&none.stdout).lines().next()), (Some(0), Some("none")));
    assert!(site.ask(&["jobs", "trigger", "versioned"]).await.status.success());
    site.until_items("resolved", 1).await;

    let output = replay(&site, "versioned-b", "versioned", &[]).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stderr), "");
    let words: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..8], ["run", "resolved:", "a", "resolved:", "a", "resolved:", "b", "same"], "{said}");
    assert!(said.contains("1 attempts, 1 with another outcome, 0 with other effects"), "{said}");
    // The tried version is neither active nor known.
    let shown = text(&site.ask(&["plugins", "show", "versioned", "--output", "json"]).await.stdout);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["versions"][0]["version"], "a");
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_replay_is_refused_with_the_reason() {
    needs!(Product);
    let site = Site::new(
        "[jobs.versioned]\nplugin = \"versioned\"\n[jobs.other]\nplugin = \"other\"\n[jobs.absent]\nplugin = \"absent\"\n",
    );
    site.install("versioned-a", "versioned");
    site.install("noop", "other");
    let host = site.serve().await;
    site.until_active("versioned").await;
    site.until_active("other").await;
    let refusals = [
        ("over-asking", "versioned", "datasource \"secrets-db\" is not granted"),
        ("wrong-world", "versioned", "it does not export tidemill:job/job@0.1"),
        ("loop-in-describe", "versioned", "describe() failed: cpu-limit: "),
        ("noop", "nobody", "there is no job \"nobody\""),
        (
            "noop",
            "absent",
            "no version of plugin absent runs on this host, so there is nothing to compare with",
        ),
    ];
    for (built_as, job, among) in refusals {
        let output = replay(&site, built_as, job, &[]).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{among}");
        assert!(text(&output.stderr).contains(among), "{among}: {}", text(&output.stderr));
    }
    let ask = async |path: &str, kind: &str, body: &str| {
        let answer = http::ask(site.address, path, &[("content-type", kind)], body).await;
        (answer.status, answer.code())
    };
    let of = |status, code: &str| (status, code.to_owned());
    let wasm = "application/wasm";
    let other = "POST /api/v1/plugins/versioned/replay?job=other";
    assert_eq!(ask(other, wasm, "").await, of(409, "other-plugin"));
    let own = "POST /api/v1/plugins/versioned/replay?job=versioned";
    assert_eq!(ask(own, wasm, "no component").await, of(422, "plugin-refused"));
    assert_eq!(ask(own, "application/json", "{}").await, of(415, "not-wasm"));
    assert_eq!(ask(&format!("{own}&last=201"), wasm, "").await, of(400, "bad-query"));
    let kinds = [("content-type", wasm), ("tidemill-signature", "?")];
    assert_eq!(http::ask(site.address, own, &kinds, "").await.code(), "bad-body");

    let large = site.path("large.wasm");
    std::fs::File::create(&large).unwrap().set_len((32 << 20) + 1).unwrap();
    let output = site.ask(&["plugins", "replay", "large.wasm", "--job", "versioned"]).await;
    let most = "a plugin has at most 33554432 bytes (plugins.component_size)";
    assert!(text(&output.stderr).contains(most), "{}", text(&output.stderr));
    one_at_a_time(&site).await;

    let added = site.ask_here(&["token", "add", "ada", "--config", "tidemill.toml"]).await;
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert_eq!(ask(own, wasm, "").await, of(401, "token-required"));
    assert_eq!(ask("PUT /api/v1/plugins/versioned", wasm, "").await, of(401, "token-required"));
    host.terminate().await;
}

/// While a component is being uploaded, other uploads are refused.
async fn one_at_a_time(site: &Site) {
    let mut slow = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "PUT /api/v1/plugins/versioned HTTP/1.1\r\nhost: {}\r\ncontent-type: application/wasm\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n",
        site.address
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // The host asks for the bytes when the upload gets its turn.
    let mut reported = [0; 25];
    slow.read_exact(&mut reported).await.unwrap();
    assert_eq!(&reported, b"HTTP/1.1 100 Continue\r\n\r\n");
    let upload = || async {
        let kind = [("content-type", "application/wasm")];
        http::ask(site.address, "PUT /api/v1/plugins/versioned", &kind, "no component").await.code()
    };
    assert_eq!(upload().await, "trial-running");
    drop(slow);
    let free = || async { (upload().await == "plugin-refused").then_some(()) };
    eventually("the turn is given back", free).await;
}

/// A service that counts its connections.
async fn service() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4_096];
            let _ = socket.read(&mut head).await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_notices_a_replay() {
    needs!(Product);
    let (address, asked) = service().await;
    let site = Site::new(&format!(
        "[jobs.caller]\nplugin = \"caller\"\nconfig.payload = '{{\"url\": \"http://{address}/a/b?secret=1\"}}'\n\
         grants.http = [\"http://{address}\"]\n"
    ));
    site.install("caller", "caller");
    let host = site.serve().await;
    site.until_active("caller").await;
    assert!(site.ask(&["jobs", "trigger", "caller"]).await.status.success());
    site.until_items("resolved", 1).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let (code, answer) = replay_json(&site, "caller", "caller").await;
    assert_eq!(asked.load(Ordering::SeqCst), 1, "{answer}");
    let attempt = &answer["attempts"][0];
    assert_eq!((code, &attempt["recorded"]["outcome"]), (Some(0), &"resolved".into()));
    let place = format!("http://{address}/a/b");
    let expected = serde_json::json!([{ "kind": "http", "method": "GET", "place": place }]);
    for made in [&attempt["now"], &attempt["new"]] {
        assert_eq!(
            (&made["outcome"], &made["code"], &made["effects"]),
            (&"permanent".into(), &"http-denied".into(), &expected)
        );
    }
    host.terminate().await;
}
