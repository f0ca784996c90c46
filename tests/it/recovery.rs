//! Manual recovery, and recovery at a start.

use domain::item::State;
use serde_json::{Value, json};
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::http;
use crate::support::jobs::host_of;
use crate::support::process::Process;
use crate::support::site::{Site, eventually, text};

on_both! { f10_one_stuck_order_or_all_are_recovered_manually }

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
    let recovered =
        "SELECT COUNT(*) FROM audit WHERE action = 'item_added' AND actor = 'local' AND subject = '2'";
    assert_eq!(databases.store_number(recovered).await, 1);
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
    let mut other = Process::spawn(&config, site.address);
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
    assert_eq!((&items[0]["state"], &items[0]["crashes"]), (&json!("scheduled"), &json!(1)));
    let audited =
        "SELECT COUNT(*) FROM audit WHERE action = 'recovered_manually' AND detail = '3 items put back'";
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
            "UPDATE item SET state = 'scheduled';
            UPDATE counter SET items = 0;
            INSERT INTO counter (job, class, items) VALUES ('hello', 'retrying', 1);
            INSERT INTO claim (id, claimed_at_ms, lease_until_ms, open_items, job, host_id, incarnation, items)
                SELECT item.id, 1, 1, 1, item.job, host.id, '', json_array(json_array(item.id, item.epoch))
                FROM item, host;
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
