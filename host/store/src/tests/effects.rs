//! Alerts, audit records and metrics of attempts: granted, limited, and published with the outcome or never.

use std::sync::Arc;

use domain::alert::{Alert, FailedAlert, FailedItems, Severity};
use domain::effect::{AuditRecord, Change, Effect, Metric, NewItem};
use domain::failure::Failure;
use domain::id::RunId;
use domain::item::ManualDecision;
use domain::job::{Capability, Grants, JobSpec};
use domain::lease::Hold;
use domain::scope::{Scope, ScopeError};
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, config, end, failed, job, permanent, resolved};
use crate::StoreError;
use crate::alerts::AlertView;
use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::scope::AttemptScope;
use crate::items::DecisionRequest;

on_both! {
    alerts_and_records_are_written_with_the_outcome,
    stale_attempt_raises_no_alert,
    effects_need_their_grants,
    effects_are_bounded,
    alert_is_counted_until_it_is_acknowledged,
    acknowledged_once,
    acknowledged_alerts_are_pruned,
    one_alert_lists_all_failed_items_of_a_run,
    failed_items_of_two_hosts_are_all_in_the_alert,
    item_that_may_be_retried_is_no_alert,
    items_of_an_attempt_are_added_together,
    jobs_add_items_up_to_a_bound,
}

fn granted() -> JobSpec {
    JobSpec {
        grants: Grants {
            capabilities: [Capability::Alerts, Capability::Audit, Capability::Metrics].into(),
            ..Grants::default()
        },
        ..job()
    }
}

fn alert(key: &str, message: &str) -> Alert {
    Alert {
        kind: "BEHIND".to_owned(),
        key: key.to_owned(),
        severity: Severity::Warning,
        message: message.to_owned(),
        metadata: "{\"n\":1}".to_owned(),
    }
}

fn record(detail: &str) -> AuditRecord {
    AuditRecord { action: "order-reset".to_owned(), subject: "order 7".to_owned(), detail: detail.to_owned() }
}

fn metric() -> Metric {
    Metric { name: "orders_total".to_owned(), labels: vec![], change: Change::Add(2) }
}

async fn scope_of(t: &T, job: JobSpec, key: &str, now: i64) -> (domain::item::Claimed, AttemptScope) {
    t.discover(&job, &[key], now).await;
    let item = t.store.items().claim(&job, super::support::lease(1, now), 1).await.unwrap().remove(0);
    (item.clone(), t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()))
}

/// Ends an attempt that raised this alert, wrote an audit record and set a metric.
async fn effects_of(t: &T, raised: Alert, now: i64) -> Vec<Effect> {
    let (item, scope) = scope_of(t, granted(), &format!("item of {now}"), now).await;
    scope.add(Effect::Alert(raised)).await.unwrap();
    scope.add(Effect::Audit(record("was stuck"))).await.unwrap();
    scope.add(Effect::Metric(metric())).await.unwrap();
    let effects = scope.end().await.unwrap().unwrap();
    let requested = effects.requested.clone();
    let end = AttemptEnd { effects, ..end(&item, &resolved(), now) };
    assert_eq!(t.store.attempts().end(Arc::new(end)).await.unwrap(), Committed::Applied);
    requested
}

async fn open(t: &T) -> Vec<AlertView> {
    t.store.alerts().list(true, 50).await.unwrap()
}

async fn alerts_and_records_are_written_with_the_outcome(t: T) {
    let effects = effects_of(&t, alert("all", "10 behind"), 5).await;
    assert_eq!(effects[2], Effect::Metric(metric()));
    let found = open(&t).await.remove(0);
    assert_eq!((found.job.as_str(), &found.alert), ("wallet", &alert("all", "10 behind")));
    assert_eq!((found.times, found.first_at, found.last_at), (1, at(5), at(5)));
    let entry = t.store.audit().list(1).await.unwrap().remove(0);
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("job wallet", "order-reset"));
    assert_eq!((entry.subject.as_str(), entry.detail.as_str()), ("order 7", "was stuck"));
}

async fn stale_attempt_raises_no_alert(t: T) {
    let (item, scope) = scope_of(&t, granted(), "a", 0).await;
    scope.add(Effect::Alert(alert("all", "x"))).await.unwrap();
    scope.add(Effect::Audit(record("x"))).await.unwrap();
    let effects = scope.end().await.unwrap().unwrap();
    t.store.items().recover(Some(super::support::host(1)), |_| 5, at(1)).await.unwrap();
    let audited = t.store.audit().list(50).await.unwrap().len();
    let end = AttemptEnd { effects, ..end(&item, &resolved(), 2) };
    assert_eq!(t.store.attempts().end(Arc::new(end)).await.unwrap(), Committed::Stale);
    assert!(open(&t).await.is_empty());
    assert_eq!(t.store.audit().list(50).await.unwrap().len(), audited);
}

async fn effects_need_their_grants(t: T) {
    let (_, scope) = scope_of(&t, job(), "a", 0).await;
    let refusals = [
        scope.add(Effect::Alert(alert("k", "m"))).await.unwrap_err(),
        scope.add(Effect::Audit(record("d"))).await.unwrap_err(),
        scope.add(Effect::Metric(metric())).await.unwrap_err(),
    ];
    expect![[r#"
        denied: job wallet is not granted alerts
        denied: job wallet is not granted audit
        denied: job wallet is not granted metrics"#]]
    .assert_eq(&lines(&refusals));
}

fn lines(errors: &[ScopeError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

async fn effects_are_bounded(t: T) {
    let mut job = granted();
    (job.limits.alerts, job.limits.audit_records, job.limits.metrics) = (1, 1, 1);
    (job.limits.text_bytes, job.limits.payload_bytes) = (10, 10);
    let (_, scope) = scope_of(&t, job, "a", 0).await;
    let mut refusals = vec![
        scope.add(Effect::Alert(Alert { kind: String::new(), ..alert("k", "m") })).await.unwrap_err(),
        scope.add(Effect::Alert(alert("k", "eleven byte"))).await.unwrap_err(),
        scope.add(Effect::Alert(alert("k", "zero\0"))).await.unwrap_err(),
        scope.add(Effect::Alert(Alert { metadata: "x".repeat(11), ..alert("k", "m") })).await.unwrap_err(),
        scope.add(Effect::Alert(alert(&"k".repeat(513), "m"))).await.unwrap_err(),
        scope.add(Effect::Audit(AuditRecord { action: String::new(), ..record("d") })).await.unwrap_err(),
        scope.add(Effect::Audit(record("eleven byte"))).await.unwrap_err(),
    ];
    scope.add(Effect::Alert(alert("k", "m"))).await.unwrap();
    scope.add(Effect::Audit(record("d"))).await.unwrap();
    scope.add(Effect::Metric(metric())).await.unwrap();
    refusals.push(scope.add(Effect::Alert(alert("k", "m"))).await.unwrap_err());
    refusals.push(scope.add(Effect::Audit(record("d"))).await.unwrap_err());
    refusals.push(scope.add(Effect::Metric(metric())).await.unwrap_err());
    expect![[r#"
        limit: a kind that is empty
        limit: a message of 11 bytes, at most 10
        refused: a message with a zero byte
        limit: metadata of 11 bytes, at most 10
        limit: an alert's key of 513 bytes, at most 512
        limit: an action that is empty
        limit: a detail of 11 bytes, at most 10
        limit: more than 1 alerts in an attempt
        limit: more than 1 audit records in an attempt
        limit: more than 1 metrics in an attempt"#]]
    .assert_eq(&lines(&refusals));
}

async fn alert_is_counted_until_it_is_acknowledged(t: T) {
    effects_of(&t, alert("all", "10 behind"), 1).await;
    effects_of(&t, alert("all", "20 behind"), 2).await;
    effects_of(&t, alert("other", "5 behind"), 3).await;
    let found = open(&t).await;
    let seen: Vec<_> =
        found.iter().map(|f| (f.alert.key.as_str(), f.alert.message.as_str(), f.times)).collect();
    assert_eq!(seen, [("other", "5 behind", 1), ("all", "20 behind", 2)]);
    assert_eq!((found[1].first_at, found[1].last_at), (at(1), at(2)));

    let done = t.store.alerts().acknowledge(found[1].id, "ada", at(4)).await.unwrap().unwrap();
    assert_eq!((done.acknowledged_at, done.acknowledged_by.as_deref()), (Some(at(4)), Some("ada")));
    let entry = t.store.audit().list(1).await.unwrap().remove(0);
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("ada", "alert_acknowledged"));
    effects_of(&t, alert("all", "30 behind"), 5).await;
    let keys: Vec<_> = open(&t).await.into_iter().map(|f| (f.alert.key, f.times)).collect();
    assert_eq!(keys, [("all".to_owned(), 1), ("other".to_owned(), 1)], "a new one");
    assert_eq!(t.store.alerts().list(false, 50).await.unwrap().len(), 3);
}

async fn acknowledged_once(t: T) {
    effects_of(&t, alert("all", "10 behind"), 1).await;
    let id = open(&t).await[0].id;
    t.store.alerts().acknowledge(id, "ada", at(2)).await.unwrap().unwrap();
    let again = t.store.alerts().acknowledge(id, "bob", at(3)).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    let unknown = domain::id::AlertId::new(at(9));
    assert!(t.store.alerts().acknowledge(unknown, "bob", at(3)).await.unwrap().is_none());
    assert_eq!(t.store.alerts().list(false, 1).await.unwrap()[0].acknowledged_by.as_deref(), Some("ada"));
}

async fn acknowledged_alerts_are_pruned(t: T) {
    for now in 1..=3 {
        effects_of(&t, alert(&now.to_string(), "behind"), now).await;
    }
    for found in open(&t).await.iter().filter(|found| found.alert.key != "3") {
        let key: i64 = found.alert.key.parse().unwrap();
        t.store.alerts().acknowledge(found.id, "ada", at(100 * key)).await.unwrap();
    }
    assert_eq!(t.store.alerts().prune(at(150), at(200)).await.unwrap(), 1);
    let left: Vec<_> =
        t.store.alerts().list(false, 9).await.unwrap().into_iter().map(|f| f.alert.key).collect();
    assert_eq!(left, ["3", "2"], "open ones stay, however old");
    let record = t.store.audit().list(1).await.unwrap().remove(0);
    assert_eq!(
        (record.actor.as_str(), record.action.as_str(), record.subject.as_str(), record.detail.as_str()),
        ("tidemill", "alerts_removed", "alerts", "1 acknowledged before 2026-11-20T12:02:30Z")
    );
    assert_eq!(t.store.alerts().prune(at(150), at(201)).await.unwrap(), 0);
    assert_eq!(
        t.store.audit().list(1).await.unwrap()[0].at,
        at(200),
        "nothing is recorded when nothing was removed"
    );
}

/// Makes items fail for good, each in its own attempt.
async fn lose(t: &T, keys: &[&str], reported: &FailedAlert, now: i64) -> RunId {
    let (run, _) = t.discover(&job(), keys, now).await;
    for item in t.claim(50, now).await {
        let failed_alert = reported.clone();
        let end = AttemptEnd { failed_alert, ..end(&item, &permanent(), now) };
        t.store.attempts().end(Arc::new(end)).await.unwrap();
    }
    run
}

async fn one_alert_lists_all_failed_items_of_a_run(t: T) {
    let reported = FailedAlert { kind: "STOCK_REPLENISH_FAILED".to_owned(), error_above: 10 };
    let names: Vec<String> = (1..=12).map(|n| format!("c{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = lose(&t, &names[..2], &reported, 1).await;
    let found = open(&t).await.remove(0);
    assert_eq!((found.alert.kind.as_str(), found.alert.key), (reported.kind.as_str(), first.to_string()));
    assert_eq!((found.alert.severity, found.times), (Severity::Warning, 2));

    let second = lose(&t, &names[2..], &reported, 2).await;
    assert_eq!(open(&t).await.len(), 2, "one a run");
    let more: Vec<String> = (1..=11).map(|n| format!("d{n:02}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let third = lose(&t, &more, &reported, 3).await;
    assert_ne!(second, third);
    let found = open(&t).await.remove(0);
    assert_eq!(found.alert.severity, Severity::Error);
    expect![[r#"11 of wallet failed for good: d01 (no-user: the user is gone); d02 (no-user: the user is gone); d03 (no-user: the user is gone); d04 (no-user: the user is gone); d05 (no-user: the user is gone); d06 (no-user: the user is gone); d07 (no-user: the user is gone); d08 (no-user: the user is gone); d09 (no-user: the user is gone); d10 (no-user: the user is gone); and 1 more"#]]
        .assert_eq(&found.alert.message);
    let listed = FailedItems::parse(&found.alert.metadata);
    assert_eq!((listed.count, listed.items.len()), (11, 11));
    assert_eq!((listed.items[10].key.as_str(), listed.items[10].attempts), ("d11", 1));
}

async fn failed_items_of_two_hosts_are_all_in_the_alert(t: T) {
    let keys: Vec<String> = (0..40).map(|n| format!("k{n:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let other = Arc::new(crate::Store::open(&config(&t.url, &t.shop_url)).await.unwrap());
    let items = t.claim(40, 0).await;
    let ends = items.iter().enumerate().map(|(n, item)| {
        let end = Arc::new(end(item, &permanent(), 1));
        let (t, other) = (t.clone(), other.clone());
        tokio::spawn(async move {
            let store = if n % 2 == 0 { &t.store } else { &other };
            store.attempts().end(end).await.unwrap()
        })
    });
    for end in ends.collect::<Vec<_>>() {
        assert_eq!(end.await.unwrap(), Committed::Applied);
    }
    let found = open(&t).await.remove(0);
    let listed = FailedItems::parse(&found.alert.metadata);
    assert_eq!((found.times, listed.count, listed.items.len()), (40, 40, 40));
}

async fn item_that_may_be_retried_is_no_alert(t: T) {
    let interrupted = Err(Failure::Interrupted);
    for (now, result) in [failed(), resolved(), interrupted].iter().enumerate() {
        t.discover(&job(), &[&format!("k{now}")], 0).await;
        let item = t.claim_one(0).await;
        let end = end(&item, result, 1);
        t.store.attempts().end(Arc::new(end)).await.unwrap();
        if now == 2 {
            break;
        }
    }
    assert!(open(&t).await.is_empty());
}

/// Also more items than one statement takes, and characters with a meaning in JSON or SQL.
async fn items_of_an_attempt_are_added_together(t: T) {
    let mut job = job();
    job.grants.items = ["wallet".parse().unwrap(), "other".parse().unwrap()].into();
    t.attempt("done", resolved(), 0).await;
    t.attempt("open", failed(), 0).await;
    let large = "\u{1}\"\\'\u{1f980}é\n".repeat(20_000);
    let wanted = [
        ("wallet", "done", "again"),
        ("wallet", "open", "ignored"),
        ("wallet", "new", "first"),
        ("wallet", "new", "second"),
        ("other", "new", ""),
        ("other", "it's \"so\" \\ 🦀", &large),
        ("other", "large-2", &large),
        ("other", "large-3", &large),
        ("other", "large-4", &large),
        ("other", "large-5", &large),
        ("other", "last", "{}"),
    ];
    let (item, scope) = scope_of(&t, job, "parent", 1).await;
    for (job, key, payload) in wanted {
        let new = NewItem { job: job.parse().unwrap(), key: key.to_owned(), payload: payload.to_owned() };
        scope.add(Effect::Item(new)).await.unwrap();
    }
    let effects = scope.end().await.unwrap().unwrap();
    let end = Arc::new(AttemptEnd { effects, ..end(&item, &resolved(), 2) });
    assert_eq!(t.store.attempts().end(end.clone()).await.unwrap(), Committed::Applied);
    let before = t.everything().await;
    assert_eq!(t.store.attempts().end(end).await.unwrap(), Committed::Applied, "it is known");
    assert_eq!(t.everything().await, before);

    let payload = async |job: &str, key: &str| t.store.items().get(job, key).await.unwrap().unwrap().payload;
    assert_eq!(payload("wallet", "done").await, "again");
    assert_eq!(payload("wallet", "open").await, "{}");
    assert_eq!(payload("wallet", "new").await, "first");
    for (job, key, expected) in &wanted[4..] {
        assert_eq!(payload(job, key).await, *expected);
    }
    assert_eq!(
        t.number("SELECT COUNT(*) AS n FROM item WHERE created_by = 'wallet' AND state = 'scheduled'").await,
        9
    );
}

async fn jobs_add_items_up_to_a_bound(t: T) {
    let mut job = job();
    job.grants.items = ["wallet".parse().unwrap(), "other".parse().unwrap()].into();
    (job.limits.items_open, job.limits.items) = (3, 2);
    let add = async |scope: &AttemptScope, job: &str, key: &str| {
        let new = NewItem { job: job.parse().unwrap(), key: key.to_owned(), payload: String::new() };
        match scope.add(Effect::Item(new)).await {
            Ok(_) => "added".to_owned(),
            Err(ScopeError::Limit(why)) => why,
            Err(other) => panic!("{other:?}"),
        }
    };
    let full = "job wallet has 3 open items: add more when they are done, or raise limits.items_open";
    // The item itself is open while its attempt runs.
    let (item, first) = scope_of(&t, job.clone(), "first", 0).await;
    assert_eq!(add(&first, "wallet", "a").await, "added");
    assert_eq!(add(&first, "wallet", "b").await, "added");
    let effects = first.end().await.unwrap().unwrap();
    t.store.attempts().end(Arc::new(AttemptEnd { effects, ..end(&item, &failed(), 0) })).await.unwrap();

    let (_, second) = scope_of(&t, job.clone(), "second", 10).await;
    assert_eq!(add(&second, "wallet", "c").await, full);
    assert_eq!(add(&second, "other", "c").await, "added", "another job has its own");
    let replayed = t.store.scope_of_discovery(Arc::new(job.clone()), at(10), Hold::without_end());
    assert_eq!(add(&replayed, "wallet", "c").await, "added", "what keeps nothing takes no room");
    for key in ["first", "a", "b"] {
        let resolve = DecisionRequest::new(ManualDecision::Resolve, None, "ada");
        // One of them is running.
        let _ = t.store.items().decide("wallet", key, resolve, at(20)).await;
    }
    let (_, third) = scope_of(&t, job, "third", 30).await;
    assert_eq!(add(&third, "wallet", "c").await, "added", "there is room again");
}
