//! Orders, their ledger and their stock: rules F1 to F4 and S2 with the real components, in virtual time.

use domain::alert::Severity;
use domain::item::State;
use domain::job::JobSpec;
use jiff::SignedDuration;
use store::alerts::AlertView;
use store::audit::AuditView;
use store::items::DecisionRequest;
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, manual, start_of_time};
use crate::support::jobs::demo_job;
use crate::support::plugins;

on_both!(
    f1_a_posting_is_published_once_and_a_bad_one_stops_alone,
    f1_a_batch_a_run_the_oldest_first,
    f2_remaining_steps_are_done_and_the_ledger_step_is_not_repeated,
    f2_failing_again_stores_the_error_and_ends_at_the_limit,
    f2_f7_the_wait_doubles_up_to_30_minutes,
    f3_a_stuck_order_is_reset_audited_and_counted,
    f3_an_order_that_sticks_too_often_alerts,
    f3_f2_a_recovered_order_is_finalized,
    f4_metrics_can_be_switched_off,
    s2_leases_that_were_not_confirmed_give_their_stock_back,
    s2_monitoring_raises_one_alert_a_trouble,
    rows_that_vanish_while_they_wait_are_reported,
);

struct Scene {
    databases: Databases,
    host: Host,
}

async fn scene(kind: Kind, jobs: &[&str], sql: &str) -> Scene {
    scene_of(kind, jobs.iter().map(|job| demo_job(job)).collect(), sql).await
}

/// A host with these jobs, on an empty business that this SQL fills.
async fn scene_of(kind: Kind, jobs: Vec<JobSpec>, sql: &str) -> Scene {
    let databases = Databases::new(kind).await;
    demo::World::create(&databases.business_url).await.unwrap();
    databases.business(sql).await;
    for job in &jobs {
        plugins::install(&databases.dir.path().join("plugins"), job.plugin.as_str(), job.plugin.as_str());
    }
    let host = Host::start("one", &databases, &manual(), jobs).await;
    Scene { databases, host }
}

impl Scene {
    async fn number(&self, sql: &str) -> i64 {
        self.databases.business_number(sql).await
    }

    async fn events(&self, topic: &str) -> Vec<serde_json::Value> {
        let events = self.host.app.store.outbox().pending(Some(topic), 1_000).await.unwrap();
        events.iter().map(|event| serde_json::from_str(&event.payload).unwrap()).collect()
    }

    async fn audited(&self, action: &str) -> Vec<AuditView> {
        let mut entries = self.host.app.store.audit().list(500).await.unwrap();
        entries.retain(|entry| entry.action == action);
        entries
    }

    async fn alerts(&self) -> Vec<AlertView> {
        self.host.app.store.alerts().list(true, 50).await.unwrap()
    }

    async fn seconds(&mut self, seconds: i64) {
        self.host.advance(SignedDuration::from_secs(seconds)).await;
    }
}

fn now_ms() -> i64 {
    start_of_time().as_millisecond()
}

fn posting(key: &str, amount: i64, age_s: i64) -> String {
    format!(
        "INSERT INTO ledger_outbox (posting_key, order_id, account, amount_minor, currency, status, created_at_ms)
        VALUES ('{key}', 7, 'acme', {amount}, 'EUR', 'pending', {});",
        now_ms() - age_s * 1_000
    )
}

/// An order whose finalizing failed; `posted` says whether the ledger has its posting.
fn failed_order(id: i64, account: &str, posted: i64) -> String {
    format!(
        "INSERT INTO split_order (order_id, account, amount_minor, currency, status, ledger_posted, updated_at_ms)
        VALUES ({id}, '{account}', 1250, 'EUR', 'finalize_failed', {posted}, {});",
        now_ms()
    )
}

/// An order whose finalizing began `age_s` seconds ago, after this many recoveries.
fn order_in_progress(id: i64, age_s: i64, recoveries: i64) -> String {
    format!(
        "INSERT INTO split_order (order_id, account, amount_minor, currency, status, finalize_in_progress,
            finalize_started_at_ms, stuck_recoveries, updated_at_ms)
        VALUES ({id}, 'acme', 1250, 'EUR', 'finalizing', 1, {}, {recoveries}, {});",
        now_ms() - age_s * 1_000,
        now_ms()
    )
}

const OPEN_ACCOUNT: &str =
    "INSERT INTO payout_account (account, state) VALUES ('acme', 'open'), ('shut', 'closed');";

async fn f1_a_posting_is_published_once_and_a_bad_one_stops_alone(kind: Kind) {
    let rows = [posting("a", 100, 3), posting("bad", -1, 2), posting("c", 300, 1)].concat();
    let mut scene = scene(kind, &["ledger-outbox"], &rows).await;
    for _ in 0..4 {
        scene.seconds(10).await;
    }
    let mut published = scene.events("LedgerPosting").await;
    published.sort_by_key(|event| event["posting_key"].to_string());
    let keys: Vec<_> = published.iter().map(|event| event["posting_key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "c"], "each once, over four runs");
    assert_eq!(published[1]["amount_minor"], 300);
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox WHERE status = 'published'").await, 2);

    let bad = scene.host.item("ledger-outbox", "bad").await;
    assert_eq!((bad.state, bad.attempts), (State::ManualRequired, 1));
    let error = bad.error.unwrap();
    assert_eq!(error.code, "bad-posting");
    assert_eq!(error.message, "the amount is -1; it has to be above 0: mend the row, then retry the item");
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox WHERE status = 'pending'").await, 1);
}

async fn f1_a_batch_a_run_the_oldest_first(kind: Kind) {
    let mut job = demo_job("ledger-outbox");
    job.config.insert("batch_size".to_owned(), "2".to_owned());
    let rows = [posting("young", 1, 1), posting("older", 1, 2), posting("oldest", 1, 3)].concat();
    let mut scene = scene_of(kind, vec![job], &rows).await;
    scene.seconds(10).await;
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox WHERE status = 'published'").await, 2);
    let left = "SELECT COUNT(*) FROM ledger_outbox WHERE status = 'pending' AND posting_key = 'young'";
    assert_eq!(scene.number(left).await, 1);
    scene.seconds(10).await;
    assert_eq!(scene.events("LedgerPosting").await.len(), 3);
}

async fn f2_remaining_steps_are_done_and_the_ledger_step_is_not_repeated(kind: Kind) {
    let rows = [OPEN_ACCOUNT.to_owned(), failed_order(1, "acme", 0), failed_order(2, "acme", 1)].concat();
    let mut scene = scene(kind, &["finalize-retry"], &rows).await;
    scene.seconds(30).await;
    let done =
        "SELECT COUNT(*) FROM split_order WHERE status = 'finalized' AND ledger_posted = 1 AND paid_out = 1";
    assert_eq!(scene.number(done).await, 2);
    // Order 2 was posted before, so only order 1 is posted now.
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox").await, 1);
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox WHERE posting_key = 'order-1'").await, 1);
    assert_eq!(scene.events("SplitOrderFinalized").await.len(), 2);
    assert_eq!(scene.audited("split-order-finalized").await.len(), 2);
}

async fn f2_failing_again_stores_the_error_and_ends_at_the_limit(kind: Kind) {
    let mut job = demo_job("finalize-retry");
    job.retry.max_attempts = Some(3);
    let rows = [OPEN_ACCOUNT.to_owned(), failed_order(1, "shut", 0)].concat();
    let mut scene = scene_of(kind, vec![job], &rows).await;
    for _ in 0..8 {
        scene.seconds(30).await;
    }
    assert_eq!(scene.number("SELECT finalize_attempts FROM split_order WHERE order_id = 1").await, 3);
    let stored =
        "SELECT COUNT(*) FROM split_order WHERE last_finalize_error LIKE 'account \"shut\" is closed%'";
    assert_eq!(scene.number(stored).await, 1);
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox").await, 1, "posted once over three tries");
    let audited = scene.audited("split-order-finalize-failed").await;
    assert_eq!(audited.len(), 3);
    assert_eq!((audited[0].actor.as_str(), audited[0].subject.as_str()), ("job finalize-retry", "1"));
    let item = scene.host.item("finalize-retry", "1").await;
    assert_eq!((item.state, item.attempts), (State::ManualRequired, 3));
    let alert = scene.alerts().await.remove(0);
    assert_eq!((alert.alert.kind.as_str(), alert.alert.severity), ("ITEMS_FAILED", Severity::Warning));

    // A person opens the account and retries: the order is finalized.
    scene.databases.business("UPDATE payout_account SET state = 'open'").await;
    let manual = domain::item::ManualDecision::Retry;
    let now = scene.host.clock.now();
    scene
        .host
        .app
        .store
        .items()
        .decide("finalize-retry", "1", DecisionRequest::new(manual, None, "ada"), now)
        .await
        .unwrap();
    scene.seconds(30).await;
    assert_eq!(scene.number("SELECT COUNT(*) FROM split_order WHERE status = 'finalized'").await, 1);
    assert_eq!(scene.number("SELECT COUNT(*) FROM ledger_outbox").await, 1);
}

async fn f2_f7_the_wait_doubles_up_to_30_minutes(kind: Kind) {
    let rows = [OPEN_ACCOUNT.to_owned(), failed_order(1, "shut", 0)].concat();
    let mut scene = scene(kind, &["finalize-retry"], &rows).await;
    scene.seconds(30).await;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let item = scene.host.item("finalize-retry", "1").await;
        let wait = item.due_at.duration_since(item.last_attempt_at.unwrap());
        waits.push(wait.as_secs());
        scene.host.advance(wait).await;
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1_800, 1_800]);
}

async fn f3_a_stuck_order_is_reset_audited_and_counted(kind: Kind) {
    let rows = [order_in_progress(1, 400, 0), order_in_progress(2, 100, 0)].concat();
    let mut scene = scene(kind, &["finalize-recover"], &rows).await;
    scene.host.minute().await;
    let reset = "SELECT COUNT(*) FROM split_order WHERE order_id = 1 AND finalize_in_progress = 0
        AND finalize_started_at_ms IS NULL AND status = 'finalize_failed' AND stuck_recoveries = 1";
    assert_eq!(scene.number(reset).await, 1);
    let audited = scene.audited("split-order-finalize-stuck-recovered").await;
    assert_eq!(audited.len(), 1);
    assert_eq!((audited[0].subject.as_str(), audited[0].detail.as_str()), ("1", "recovery 1 of this order"));
    assert!(scene.alerts().await.is_empty());
    // Order 2 began later; it is recovered when it is as old.
    for _ in 0..3 {
        scene.host.minute().await;
    }
    assert_eq!(scene.number("SELECT CAST(SUM(stuck_recoveries) AS BIGINT) FROM split_order").await, 2);
    assert_eq!(scene.audited("split-order-finalize-stuck-recovered").await.len(), 2);
}

async fn f3_an_order_that_sticks_too_often_alerts(kind: Kind) {
    let rows = [order_in_progress(1, 400, 2), order_in_progress(2, 400, 3)].concat();
    let mut scene = scene(kind, &["finalize-recover"], &rows).await;
    scene.host.minute().await;
    let alerts = scene.alerts().await;
    assert_eq!(alerts.len(), 1);
    let AlertView { alert, .. } = &alerts[0];
    assert_eq!((alert.kind.as_str(), alert.key.as_str()), ("FINALIZE_STUCK_TOO_OFTEN", "2"));
    assert_eq!(alert.severity, Severity::Error);
    assert_eq!(alert.metadata, r#"{"order_id":2,"stuck_recoveries":4}"#);
}

async fn f3_f2_a_recovered_order_is_finalized(kind: Kind) {
    let rows = [OPEN_ACCOUNT.to_owned(), order_in_progress(1, 400, 0)].concat();
    let mut scene = scene(kind, &["finalize-recover", "finalize-retry"], &rows).await;
    for _ in 0..2 {
        scene.host.minute().await;
    }
    assert_eq!(scene.number("SELECT COUNT(*) FROM split_order WHERE status = 'finalized'").await, 1);
    assert_eq!(scene.events("SplitOrderFinalized").await.len(), 1);
}

async fn f4_metrics_can_be_switched_off(kind: Kind) {
    let mut off = demo_job("metrics-collect");
    off.config.insert("enabled".to_owned(), "false".to_owned());
    let mut scene = scene_of(kind, vec![off], "").await;
    scene.seconds(15).await;
    let item = scene.host.item("metrics-collect", "run").await;
    assert_eq!((item.state, item.note.as_deref()), (State::Resolved, Some("metrics are off")));
}

fn lease(id: &str, status: &str, expires_in_s: i64) -> String {
    format!(
        "INSERT INTO stock_lease (lease_id, campaign_id, units, status, expires_at_ms)
        VALUES ('{id}', 1, 5, '{status}', {});",
        now_ms() + expires_in_s * 1_000
    )
}

async fn s2_leases_that_were_not_confirmed_give_their_stock_back(kind: Kind) {
    let campaign =
        "INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min) VALUES (1, 1, 'Tea', 10, 20);";
    let rows = [
        campaign.to_owned(),
        lease("over", "held", -60),
        lease("soon", "held", 360),
        lease("bought", "confirmed", -60),
    ];
    let mut scene = scene(kind, &["lease-recovery"], &rows.concat()).await;
    scene.seconds(300).await;
    assert_eq!(scene.number("SELECT stock FROM campaign").await, 15);
    scene.seconds(300).await;
    assert_eq!(scene.number("SELECT stock FROM campaign").await, 20);
    assert_eq!(scene.number("SELECT COUNT(*) FROM stock_lease WHERE status = 'expired'").await, 2);
    assert_eq!(scene.number("SELECT COUNT(*) FROM stock_lease WHERE status = 'confirmed'").await, 1);
    let audited = scene.audited("stock-lease-expired").await;
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[1].detail, "5 units back to campaign 1");
}

async fn s2_monitoring_raises_one_alert_a_trouble(kind: Kind) {
    let campaigns: Vec<String> = (1..=12).map(|id| format!("({id}, 1, 'c{id:02}', 0, 20)")).collect();
    let campaigns = format!(
        "INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min) VALUES {};",
        campaigns.join(", ")
    );
    let rows = [campaigns, posting("late", 1, 60 * 60), posting("fresh", 1, 1)].concat();
    let mut scene = scene(kind, &["monitoring-alert"], &rows).await;
    scene.seconds(540).await;
    assert!(scene.alerts().await.is_empty(), "it looks each 10 minutes");
    scene.seconds(60).await;
    scene.seconds(600).await;
    let mut alerts = scene.alerts().await;
    alerts.sort_by_key(|found| found.alert.kind.clone());
    let seen: Vec<_> = alerts.iter().map(|f| (f.alert.kind.as_str(), f.alert.severity, f.times)).collect();
    assert_eq!(
        seen,
        [("CAMPAIGNS_OUT_OF_STOCK", Severity::Error, 2), ("LEDGER_OUTBOX_BEHIND", Severity::Warning, 2)]
    );
    let message = &alerts[0].alert.message;
    assert_eq!(
        message,
        "12 campaigns have no stock left: c01, c02, c03, c04, c05, c06, c07, c08, c09, c10 and 2 more"
    );
    let all: serde_json::Value = serde_json::from_str(&alerts[0].alert.metadata).unwrap();
    assert_eq!(all["all"].as_array().unwrap().len(), 12);
}

async fn rows_that_vanish_while_they_wait_are_reported(kind: Kind) {
    let mut job = demo_job("ledger-outbox");
    // The rate allows one attempt in the first window, so that the row can be deleted meanwhile.
    job.flow.rate = Some(domain::flow::Rate { attempts_max: 1, window: SignedDuration::from_mins(10) });
    let rows = [posting("a", 1, 2), posting("b", 1, 1)].concat();
    let mut scene = scene_of(kind, vec![job], &rows).await;
    scene.seconds(10).await;
    let left =
        scene.host.app.store.items().list(Some("ledger-outbox"), Some(State::Scheduled), 9).await.unwrap();
    assert_eq!(left.len(), 1);
    scene.databases.business("DELETE FROM ledger_outbox").await;
    scene.seconds(600).await;
    let item = scene.host.item("ledger-outbox", &left[0].key).await;
    assert_eq!((item.state, item.note.as_deref()), (State::Resolved, Some("the posting is gone")));
    assert_eq!(scene.events("LedgerPosting").await.len(), 1);
}
