//! Text that no database can store or no display shows: refused or made visible, in the same way on both
//! databases.

use std::sync::Arc;

use domain::alert::{Alert, Severity};
use domain::batch::{NewBatch, NewBatchItem};
use domain::effect::{AuditRecord, Effect, NewItem};
use domain::item::{Claimed, ManualDecision};
use domain::job::{Capability, Grants, JobSpec};
use domain::lease::Hold;
use domain::scope::{Scope, ScopeError};
use test_support::on_both;

use super::support::{T, at, end, event, job, lease, permanent};
use crate::StoreError;
use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::scope::AttemptScope;
use crate::audit::Entry;
use crate::items::DecisionRequest;

on_both! {
    names_with_hidden_characters_are_refused_for_good,
    texts_for_people_are_kept_with_hidden_characters_shown,
    data_is_kept_as_it_is,
    json_documents_keep_their_bytes,
    zero_bytes_are_refused_by_both_databases,
}

const EVIL: [&str; 8] =
    ["a\0b", "a\nb", "\u{1b}[31m", "a\u{85}", "a\u{202e}b", "a\u{2066}b", "a\u{2029}b", "a\u{200b}b"];

fn granted() -> JobSpec {
    let grants = Grants {
        capabilities: [Capability::Alerts, Capability::Audit, Capability::KeyValue].into(),
        topics: ["orders".to_owned()].into(),
        items: ["wallet".parse().unwrap()].into(),
        locks: ["a*".parse().unwrap()].into(),
        ..Grants::default()
    };
    JobSpec { grants, ..job() }
}

async fn attempt(t: &T) -> (Claimed, AttemptScope) {
    let job = granted();
    t.discover(&job, &["k"], 0).await;
    let item = t.store.items().claim(&job, lease(1, 0), 1).await.unwrap().remove(0);
    (item.clone(), t.store.scope_of_attempt(Arc::new(job), item, Hold::without_end()))
}

fn alert(kind: &str, key: &str, message: &str) -> Alert {
    let text = str::to_owned;
    Alert {
        kind: text(kind),
        key: text(key),
        severity: Severity::Warning,
        message: text(message),
        metadata: text(""),
    }
}

fn record(action: &str, subject: &str, detail: &str) -> AuditRecord {
    AuditRecord { action: action.to_owned(), subject: subject.to_owned(), detail: detail.to_owned() }
}

async fn names_with_hidden_characters_are_refused_for_good(t: T) {
    let (_, scope) = attempt(&t).await;
    let new = |key: &str, payload: &str| NewItem {
        job: "wallet".parse().unwrap(),
        key: key.to_owned(),
        payload: payload.to_owned(),
    };
    for evil in EVIL {
        let refused = [
            scope.add(Effect::Alert(alert(evil, "k", "m"))).await.map(drop),
            scope.add(Effect::Alert(alert("K", evil, "m"))).await.map(drop),
            scope.add(Effect::Audit(record(evil, "s", "d"))).await.map(drop),
            scope.add(Effect::Audit(record("a", evil, "d"))).await.map(drop),
            scope.add(Effect::Item(new(evil, ""))).await.map(drop),
            scope.add(event("orders", evil, "{}")).await.map(drop),
            scope.kv_get("b", evil).await.map(drop),
            scope.kv_get(evil, "k").await.map(drop),
            scope.kv_set("b", evil, Some(vec![1])).await,
            scope.kv_set(evil, "k", None).await,
            scope.kv_keys(evil, 0).await.map(drop),
            scope.lock(evil).await.map(drop),
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            assert!(matches!(&refused, Err(ScopeError::Refused(_))), "{at} {evil:?}: {refused:?}");
        }
    }
    let zero = [
        scope.add(Effect::Item(new("x", "\0"))).await.map(drop),
        scope.add(event("orders", "k", "\0")).await.map(drop),
        scope.add(Effect::Alert(alert("K", "k", "m\0"))).await.map(drop),
        scope.add(Effect::Alert(Alert { metadata: "\0".to_owned(), ..alert("K", "k", "m") })).await.map(drop),
        scope.add(Effect::Audit(record("a", "s", "d\0"))).await.map(drop),
    ];
    for refused in zero {
        assert!(
            matches!(&refused, Err(ScopeError::Refused(why)) if why.ends_with(" with a zero byte")),
            "{refused:?}"
        );
    }
}

async fn texts_for_people_are_kept_with_hidden_characters_shown(t: T) {
    let (item, scope) = attempt(&t).await;
    scope.add(Effect::Alert(alert("K", "k", "one\ntwo\u{1b}[2J\u{202e}"))).await.unwrap();
    scope.add(Effect::Audit(record("a", "s", "one\ntwo\u{2028}"))).await.unwrap();
    let effects = scope.end().await.unwrap().unwrap();
    let end = AttemptEnd { effects, ..end(&item, &permanent(), 1) };
    assert_eq!(t.store.attempts().end(Arc::new(end)).await.unwrap(), Committed::Applied);
    let alerts = t.store.alerts().list(true, 10).await.unwrap();
    let reported = alerts.iter().find(|found| found.alert.kind == "K").unwrap();
    assert_eq!(reported.alert.message, "one\ntwo\\u{1b}[2J\\u{202e}");
    let audit = t.store.audit().list(10).await.unwrap();
    let written = audit.iter().find(|entry| entry.action == "a").unwrap();
    assert_eq!(written.detail, "one\ntwo\\u{2028}");

    // The host's own texts may quote those of a service, or a file name.
    t.store.alerts().raise_for_host(&alert("HOST", "", "a\0b"), at(2)).await.unwrap();
    let entry = Entry { actor: "host", action: "lost", job: None, subject: "x\n\0", detail: "y\0" };
    t.store.audit().add(&entry, at(2)).await.unwrap();
    let audit = t.store.audit().list(10).await.unwrap();
    let written = audit.iter().find(|entry| entry.action == "lost").unwrap();
    assert_eq!((written.subject.as_str(), written.detail.as_str()), ("x\\n\\u{0}", "y\\u{0}"));
}

async fn data_is_kept_as_it_is(t: T) {
    let (item, scope) = attempt(&t).await;
    let payload = "{\"a\": \"\u{202e}\\u0000\u{1b}\",\t\"a\":1e400 ,\r\n\"b\":1.0}";
    scope.add(event("orders", "k", payload)).await.unwrap();
    let new = NewItem { job: "wallet".parse().unwrap(), key: "new".to_owned(), payload: payload.to_owned() };
    scope.add(Effect::Item(new)).await.unwrap();
    let metadata = Alert { metadata: payload.to_owned(), ..alert("K", "k", "m") };
    scope.add(Effect::Alert(metadata)).await.unwrap();
    let effects = scope.end().await.unwrap().unwrap();
    let end = AttemptEnd { effects, ..end(&item, &permanent(), 1) };
    assert_eq!(t.store.attempts().end(Arc::new(end)).await.unwrap(), Committed::Applied);
    assert_eq!(t.store.items().get("wallet", "new").await.unwrap().unwrap().payload, payload);
    assert_eq!(t.store.outbox().pending(None, 10).await.unwrap()[0].payload, payload);
    let alerts = t.store.alerts().list(true, 10).await.unwrap();
    assert_eq!(alerts.iter().find(|found| found.alert.kind == "K").unwrap().alert.metadata, payload);
}

async fn zero_bytes_are_refused_by_both_databases(t: T) {
    t.discover(&job(), &["k"], 0).await;
    let refused = [
        t.store.items().get("wallet", "k\0").await.map(drop),
        t.store.items().list(Some("wal\0let"), None, 1).await.map(drop),
        t.store.batches().get("b\0").await.map(drop),
        t.store.locks().get("l\0", at(0)).await.map(drop),
        t.store.tokens().add("t\0", "hash", at(0)).await,
        t.store
            .items()
            .decide("wallet", "k", DecisionRequest::new(ManualDecision::Retry, Some("why\0"), "ada"), at(1))
            .await
            .map(drop),
    ];
    for (at, refused) in refused.into_iter().enumerate() {
        assert!(matches!(&refused, Err(StoreError::Refused(_))), "{at}: {refused:?}");
    }
    assert!(t.store.items().get("wallet", "k").await.unwrap().is_some(), "the connection is still good");
}

/// Each contains something that a JSON parser or a column of another type would rewrite.
const DOCUMENTS: [&str; 9] = [
    "123456789012345678901234567890",
    "{\"b\":1.0,\"a\":1e400,\"b\":-0}",
    "[1E5 ,0.10,\t100000000000000000001]",
    "{\r\n  \"z\" : [ ] , \"a\":{ } }",
    "\"\\u00e9\\/\\ud83d\\ude00\\u0000\u{202e}é\"",
    "\"\\ud800\"",
    "0.1e-7",
    "null",
    "[[[[[[[[]]]]]]]]",
];

async fn json_documents_keep_their_bytes(t: T) {
    let item = |payload: &&str| NewBatchItem {
        operation: "o".to_owned(),
        payload: (*payload).to_owned(),
        reason: String::new(),
        max_attempts: None,
    };
    let batch = NewBatch {
        batch: "b".to_owned(),
        job: job().name,
        created_by: "ada".to_owned(),
        items: DOCUMENTS.iter().map(item).collect(),
    };
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.store.batches().add(&batch, "ada", at(0)).await.unwrap();
    let items = t.store.batches().items("b", 100, 0).await.unwrap();
    let kept: Vec<&str> = items.iter().map(|item| item.payload.as_str()).collect();
    assert_eq!(kept, DOCUMENTS);
    let claimed = t.store.items().claim(&job(), lease(1, 1), 100).await.unwrap();
    assert_eq!(claimed.len(), DOCUMENTS.len());
    assert!(claimed.iter().all(|item| DOCUMENTS.contains(&item.payload.as_str())));
    for document in DOCUMENTS {
        t.store.jobs().trigger(&job().name, Some(document), "ada", at(2)).await.unwrap();
        let run = t.store.runs().claim(&job().name, lease(1, 2)).await.unwrap().unwrap();
        assert_eq!(run.params.as_deref(), Some(document));
        let key = "retry.base".to_owned();
        let edit = [(key, Some(document.to_owned()))];
        t.store.jobs().edit(&job().name, &edit, "ada", at(2)).await.unwrap();
        assert_eq!(t.store.jobs().edits().await.unwrap()[0].value, document);
        t.store
            .alerts()
            .raise(&job().name, &Alert { metadata: document.to_owned(), ..alert("K", "", "m") }, at(2))
            .await
            .unwrap();
        assert_eq!(t.store.alerts().list(true, 1).await.unwrap()[0].alert.metadata, document);
    }
}
