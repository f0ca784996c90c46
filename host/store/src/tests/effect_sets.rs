//! Effects of attempts that end in one transaction: each kind is written as one set, with the same result as one
//! after the other.

use std::sync::Arc;

use domain::alert::{Alert, FailedItems, Severity};
use domain::effect::{AuditRecord, Effect, Event, NewItem};
use domain::id::EventId;
use domain::item::Claimed;
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{T, at, end, job, permanent, resolved};
use crate::StoreError;
use crate::attempts::commit::{AttemptEnd, Committed, Effects};
use crate::attempts::ends;
use crate::attempts::kv::{KvWrite, Precondition};

on_both! {
    writes_of_a_key_follow_each_other,
    write_that_an_earlier_attempt_invalidates_is_refused,
    keys_are_added_changed_and_removed_together,
    value_that_expires_within_a_batch_does_not_exist,
    large_sets_are_written_in_portions,
    batches_with_the_same_keys_wait_for_each_other,
    alerts_of_a_batch_are_counted,
    failed_items_of_several_runs_have_their_own_alerts,
    events_and_records_keep_their_order,
    first_item_of_a_key_counts,
    batches_that_add_the_same_items_wait_for_each_other,
    batch_without_effects_touches_no_table_of_effects,
}

fn set(key: &str, value: Option<&str>, found: Precondition) -> KvWrite {
    let value = value.map(|text| text.as_bytes().to_vec());
    KvWrite { bucket: "b".to_owned(), key: key.to_owned(), value, ttl: None, found }
}

fn value(text: &str) -> Precondition {
    Precondition::Value(text.as_bytes().to_vec())
}

fn writes(kv: Vec<KvWrite>) -> Effects {
    Effects { kv, requested: Vec::new() }
}

fn requests(requested: Vec<Effect>) -> Effects {
    Effects { kv: Vec::new(), requested }
}

/// As many claimed items, with keys of this time.
async fn claimed(t: &T, count: usize, now: i64) -> Vec<Claimed> {
    let keys: Vec<String> = (0..count).map(|n| format!("k{now}-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, now).await;
    let mut items = t.claim(u32::try_from(count).unwrap(), now).await;
    items.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(items.len(), count);
    items
}

/// Claimed items whose attempts end with these effects, one second after another.
async fn ends_with(t: &T, effects: Vec<Effects>, now: i64) -> Vec<Arc<AttemptEnd>> {
    let items = claimed(t, effects.len(), now).await;
    let end = |(n, (item, effects)): (usize, (&Claimed, Effects))| {
        let now = now + i64::try_from(n).unwrap();
        Arc::new(AttemptEnd { effects, ..end(item, &resolved(), now) })
    };
    items.iter().zip(effects).enumerate().map(end).collect()
}

/// Ends them in one transaction.
async fn end_together(t: &T, effects: Vec<Effects>, now: i64) {
    let ends = ends_with(t, effects, now).await;
    write(t, ends).await.unwrap();
}

async fn write(t: &T, ends: Vec<Arc<AttemptEnd>>) -> Result<(), StoreError> {
    let mut tx = t.store.db.begin().await?;
    let committed = ends::write_all(&mut tx, &ends).await?;
    assert!(committed.iter().all(|one| *one == Committed::Applied), "{committed:?}");
    tx.commit().await
}

/// `key=value`, or `key=value until SECOND`.
async fn stored(t: &T) -> Vec<String> {
    let rows = t.rows("SELECT kv_key, value, expires_at_ms FROM kv ORDER BY bucket, kv_key").await;
    let line = |row: &crate::db::Row| {
        let value = String::from_utf8(row.blob("value").unwrap()).unwrap();
        let until = row.opt_time("expires_at_ms").unwrap();
        let until = until.map(|until| format!(" until {}", until.duration_since(at(0)).as_secs()));
        format!("{}={value}{}", row.text("kv_key").unwrap(), until.unwrap_or_default())
    };
    rows.iter().map(line).collect()
}

async fn writes_of_a_key_follow_each_other(t: T) {
    let effects = vec![
        writes(vec![set("a", Some("1"), Precondition::Nothing), set("b", Some("1"), Precondition::Anything)]),
        writes(vec![set("a", Some("2"), value("1")), set("b", None, value("1"))]),
        writes(vec![set("a", Some("3"), value("2")), set("b", None, Precondition::Nothing)]),
        writes(vec![set("a", Some("4"), Precondition::Anything), set("c", None, Precondition::Anything)]),
    ];
    end_together(&t, effects, 0).await;
    assert_eq!(stored(&t).await, ["a=4"]);
}

async fn write_that_an_earlier_attempt_invalidates_is_refused(t: T) {
    let cases = [
        (set("a", Some("1"), Precondition::Anything), set("a", Some("2"), Precondition::Nothing)),
        (set("a", Some("1"), Precondition::Anything), set("a", Some("2"), value("0"))),
        (set("a", None, Precondition::Anything), set("a", Some("2"), value("0"))),
        (set("z", Some("1"), Precondition::Anything), set("a", Some("2"), value("0"))),
    ];
    for (now, (first, second)) in (0..).zip(cases) {
        let ends = ends_with(&t, vec![writes(vec![first]), writes(vec![second])], 10 * now).await;
        let before = t.everything().await;
        let error = write(&t, ends).await.unwrap_err();
        assert!(matches!(&error, StoreError::Raced(why) if why.contains("\"a\" was changed")), "{error:?}");
        assert_eq!(t.everything().await, before);
    }
}

async fn keys_are_added_changed_and_removed_together(t: T) {
    let put = |key: &str| set(key, Some("x"), Precondition::Anything);
    let short =
        |write: KvWrite, seconds: i64| KvWrite { ttl: Some(SignedDuration::from_secs(seconds)), ..write };
    let mut before: Vec<KvWrite> = ["changed", "put", "removed", "taken", "other"].map(put).into();
    before.push(short(put("expired"), 5));
    end_together(&t, vec![writes(before)], 0).await;
    let kv = vec![
        set("changed", Some("new"), value("x")),
        set("put", Some("new"), Precondition::Anything),
        set("removed", None, Precondition::Anything),
        set("taken", None, value("x")),
        set("expired", Some("new"), Precondition::Nothing),
        set("missing", None, Precondition::Anything),
        set("absent", None, Precondition::Nothing),
        set("added", Some(""), Precondition::Nothing),
        short(set("short", Some("new"), Precondition::Anything), 60),
    ];
    end_together(&t, vec![writes(kv)], 10).await;
    let expected = ["added=", "changed=new", "expired=new", "other=x", "put=new", "short=new until 70"];
    assert_eq!(stored(&t).await, expected);
}

async fn value_that_expires_within_a_batch_does_not_exist(t: T) {
    let short =
        KvWrite { ttl: Some(SignedDuration::from_secs(1)), ..set("a", Some("1"), Precondition::Anything) };
    let effects = vec![writes(vec![short]), writes(vec![set("a", Some("2"), Precondition::Nothing)])];
    end_together(&t, effects, 0).await;
    assert_eq!(stored(&t).await, ["a=2"]);
}

async fn large_sets_are_written_in_portions(t: T) {
    const VALUES: usize = 40;
    let large = "v".repeat(64 << 10);
    let keys: Vec<String> = (0..VALUES).map(|n| format!("large-{n:02}")).collect();
    let all = |value: &str, found: &Precondition| {
        writes(keys.iter().map(|key| set(key, Some(value), found.clone())).collect())
    };
    end_together(&t, vec![all(&large, &Precondition::Nothing)], 0).await;
    let count = format!("SELECT COUNT(*) AS n FROM kv WHERE length(value) = {}", large.len());
    assert_eq!(t.number(&count).await, 40);
    end_together(&t, vec![all("small", &value(&large))], 10).await;
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM kv WHERE length(value) = 5").await, 40);
}

/// Each batch names the keys in another order, and some of them are new.
async fn batches_with_the_same_keys_wait_for_each_other(t: T) {
    let mut batches = Vec::new();
    for n in 0..32 {
        let mut keys: Vec<String> = (0..8).map(|key| format!("key-{}", key + n / 4)).collect();
        if n % 2 == 0 {
            keys.reverse();
        }
        let kv = |value: Option<&str>| {
            writes(keys.iter().map(|key| set(key, value, Precondition::Anything)).collect())
        };
        batches.push(ends_with(&t, vec![kv(Some("x")), kv((n % 3 > 0).then_some("y"))], n).await);
    }
    end_at_once(&t, batches).await;
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item WHERE state = 'resolved'").await, 64);
}

/// Writes each batch in a transaction of its own, all at the same time. None may be repeated.
async fn end_at_once(t: &T, batches: Vec<Vec<Arc<AttemptEnd>>>) {
    let start = |ends| {
        let t = t.clone();
        tokio::spawn(async move { write(&t, ends).await.unwrap() })
    };
    for task in batches.into_iter().map(start).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn alert(key: &str, message: &str) -> Effect {
    Effect::Alert(Alert {
        kind: "BEHIND".to_owned(),
        key: key.to_owned(),
        severity: Severity::Warning,
        message: message.to_owned(),
        metadata: String::new(),
    })
}

async fn alerts_of_a_batch_are_counted(t: T) {
    let effects = vec![
        requests(vec![alert("b", "1"), alert("a", "1"), alert("b", "2")]),
        requests(vec![alert("b", "3")]),
    ];
    end_together(&t, effects, 0).await;
    end_together(&t, vec![requests(vec![alert("b", "4")])], 7).await;
    let found = t.store.alerts().list(true, 9).await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|f| (f.alert.key.as_str(), f.alert.message.as_str(), f.times, f.first_at, f.last_at))
        .collect();
    assert_eq!(seen, [("b", "4", 4, at(0), at(7)), ("a", "1", 1, at(0), at(0))]);
}

async fn failed_items_of_several_runs_have_their_own_alerts(t: T) {
    let (first, second) = (claimed(&t, 2, 0).await, t.discover(&job(), &["later"], 1).await);
    let later = t.claim_one(1).await;
    let ends = [&first[0], &later, &first[1]].map(|item| Arc::new(end(item, &permanent(), 2)));
    write(&t, ends.to_vec()).await.unwrap();
    let mut found = t.store.alerts().list(true, 9).await.unwrap();
    found.sort_by_key(|found| found.times);
    assert_eq!(found[0].alert.key, second.0.to_string());
    let listed: Vec<Vec<String>> = found
        .iter()
        .map(|found| {
            FailedItems::parse(&found.alert.metadata).items.into_iter().map(|item| item.key).collect()
        })
        .collect();
    assert_eq!(listed, [vec!["later"], vec!["k0-0", "k0-1"]]);
    assert_eq!((found[0].times, found[1].times), (1, 2));
}

async fn events_and_records_keep_their_order(t: T) {
    let event = |n: i64| {
        Effect::Event(Event { id: EventId::new(at(0)), seq: n, ..Event::new("w", format!("{n}"), "{}") })
    };
    let record = |n: i64| {
        Effect::Audit(AuditRecord {
            action: "reset".to_owned(),
            subject: format!("order {n}"),
            detail: "it's \"so\"\n".to_owned(),
        })
    };
    let effects =
        vec![requests(vec![event(3), record(1), event(4), record(2)]), requests(vec![event(1), record(3)])];
    end_together(&t, effects, 0).await;
    let events = t.store.outbox().pending(None, 9).await.unwrap();
    let keys: Vec<&str> = events.iter().map(|event| event.key.as_str()).collect();
    assert_eq!(keys, ["3", "4", "1"], "by the end of the attempt, then in the order of publication");
    let own = t.rows("SELECT subject, actor, job FROM audit WHERE action = 'reset' ORDER BY at_ms, id").await;
    let subjects: Vec<String> = own.iter().map(|row| row.text("subject").unwrap()).collect();
    assert_eq!(subjects, ["order 1", "order 2", "order 3"]);
    assert_eq!(
        (own[0].text("actor").unwrap(), own[0].text("job").unwrap()),
        ("job wallet".into(), "wallet".into())
    );
}

async fn first_item_of_a_key_counts(t: T) {
    let item = |key: &str, payload: &str| {
        let (key, payload) = (key.to_owned(), payload.to_owned());
        Effect::Item(NewItem { job: "other".parse().unwrap(), key, payload })
    };
    let effects = vec![
        requests(vec![item("x", "first"), item("y", "only")]),
        requests(vec![item("x", "second"), item("z", "last")]),
    ];
    end_together(&t, effects, 0).await;
    let rows = t.rows("SELECT item_key, payload FROM item WHERE job = 'other' ORDER BY item_key").await;
    let added: Vec<String> = rows
        .iter()
        .map(|row| format!("{}={}", row.text("item_key").unwrap(), row.text("payload").unwrap()))
        .collect();
    assert_eq!(added, ["x=first", "y=only", "z=last"]);
}

/// Each batch names the items in another order. Half of those of one job are resolved before, and those of the other
/// job take two statements.
async fn batches_that_add_the_same_items_wait_for_each_other(t: T) {
    for n in 0..4 {
        t.attempt(&format!("item-{}", n * 2), resolved(), n).await;
    }
    let long = "x".repeat(300 << 10);
    let mut batches = Vec::new();
    for n in 4..16 {
        let mut items: Vec<(&str, usize, &str)> = Vec::new();
        items.extend((0..8).map(|key| ("wallet", key, "{}")));
        items.extend((0..4).map(|key| ("other", key, long.as_str())));
        if n % 2 == 0 {
            items.reverse();
        }
        let added = items.iter().map(|(job, key, payload)| {
            let (job, payload) = (job.parse().unwrap(), (*payload).to_owned());
            Effect::Item(NewItem { job, key: format!("item-{key}"), payload })
        });
        batches.push(ends_with(&t, vec![requests(added.collect())], n).await);
    }
    end_at_once(&t, batches).await;
    let open = "SELECT COUNT(*) AS n FROM item WHERE item_key LIKE 'item-%' AND state = 'scheduled'";
    assert_eq!(t.number(open).await, 12);
}

/// Without their tables, each statement on effects would fail.
async fn batch_without_effects_touches_no_table_of_effects(t: T) {
    let items = claimed(&t, 3, 0).await;
    for table in ["kv", "event", "alert", "audit"] {
        t.tamper(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await.unwrap();
    }
    write(&t, items.iter().map(|item| Arc::new(end(item, &resolved(), 1))).collect()).await.unwrap();
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item WHERE state = 'resolved'").await, 3);
}
