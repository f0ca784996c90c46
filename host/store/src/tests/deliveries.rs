//! Claims of events for a sink, and the results of their deliveries.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::effect::{Effect, Event};
use domain::id::EventId;
use jiff::Timestamp;
use test_support::{execute, on_both};

use super::support::{SHOP, T, at, end, job, resolved};
use crate::attempts::commit::{AttemptEnd, Effects};
use crate::events::delivery::{ClaimLimits, DueEvent, FailedTry, Results};
use crate::events::outbox::EventView;

on_both! {
    claim_takes_the_next_events_of_a_key_too,
    claimed_key_is_claimed_by_nobody_else,
    claim_is_limited_in_events_and_bytes,
    failed_event_holds_back_its_key,
    event_that_is_given_up_lets_the_next_pass,
    unsent_event_is_due_again_without_a_try,
    event_of_another_worker_ends_what_a_claim_takes,
    each_key_is_claimed_by_one_of_many,
    results_and_consumers_do_not_block_each_other,
    events_are_inserted_into_a_table_together,
}

const MOST: ClaimLimits = ClaimLimits { events: 100, bytes: 1 << 20 };

/// One attempt that publishes an event of topic `w` for each key, with its place as the payload.
async fn publish(t: &T, keys: &[&str], now: i64) {
    t.discover(&job(), &[&format!("item of {now}")], now).await;
    let item = t.claim_one(now).await;
    let event = |(seq, key): (usize, &&str)| {
        let (id, seq) = (EventId::new(at(now)), i64::try_from(seq).unwrap());
        Effect::Event(Event { id, seq, ..Event::new("w", *key, format!("{seq:02}")) })
    };
    let effects = Effects { requested: keys.iter().enumerate().map(event).collect(), ..Effects::default() };
    let end = AttemptEnd { effects, ..end(&item, &resolved(), now) };
    t.store.attempts().end(Arc::new(end)).await.unwrap();
}

async fn claim_of(t: &T, most: ClaimLimits, now: i64) -> Vec<DueEvent> {
    t.store.outbox().claim(&["w", "other"], most, at(now + 60), at(now)).await.unwrap()
}

async fn claim(t: &T, now: i64) -> Vec<DueEvent> {
    claim_of(t, MOST, now).await
}

/// Key, place and tries of each event.
fn text(due: &[DueEvent]) -> String {
    let one = |due: &DueEvent| format!("{}{}/{}", due.event.key, due.event.payload, due.tries);
    due.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn delivered(due: &[DueEvent]) -> Results<'_> {
    Results { delivered: due.iter().map(|due| due.event.id).collect(), ..Results::default() }
}

fn failed(due: &DueEvent, again_at: Option<Timestamp>) -> Results<'_> {
    let failed = vec![FailedTry { due, error: "refused".to_owned(), again_at }];
    Results { failed, ..Results::default() }
}

async fn record(t: &T, results: Results<'_>, now: i64) {
    t.store.outbox().record(&results, at(now)).await.unwrap();
}

async fn claim_takes_the_next_events_of_a_key_too(t: T) {
    publish(&t, &["a", "b", "a", "a"], 0).await;
    publish(&t, &["b"], 1).await;
    let due = claim(&t, 2).await;
    assert_eq!(text(&due), "a00/1 b01/1 a02/1 a03/1 b00/1", "in the order of publication");
    record(&t, delivered(&due), 3).await;
    assert!(claim(&t, 100).await.is_empty() && t.store.outbox().pending(None, 9).await.unwrap().is_empty());
}

async fn claimed_key_is_claimed_by_nobody_else(t: T) {
    publish(&t, &["a", "a"], 0).await;
    assert_eq!(text(&claim(&t, 1).await), "a00/1 a01/1");
    publish(&t, &["a", "b"], 2).await;
    assert_eq!(text(&claim(&t, 3).await), "b01/1", "a new event of the key waits, too");
    assert_eq!(text(&claim(&t, 61).await), "a00/2 a01/1 a00/1", "the claim has ended");
}

async fn claim_is_limited_in_events_and_bytes(t: T) {
    publish(&t, &["a", "a", "a", "b", "b", "c"], 0).await;
    let limits = |events, bytes| ClaimLimits { events, bytes };
    for (most, expected) in
        [(limits(1, 99), "a00/1"), (limits(4, 99), "b03/1 b04/1 c05/1"), (limits(9, 99), "")]
    {
        assert_eq!(text(&claim_of(&t, most, 1).await), expected);
    }
    // Two bytes each.
    for (most, expected) in [(limits(9, 1), "a00/2"), (limits(9, 7), "b03/2 b04/1 c05/2")] {
        assert_eq!(text(&claim_of(&t, most, 70).await), expected);
    }
    assert_eq!(text(&claim_of(&t, limits(4, 99), 200).await), "a00/3 a01/1 b03/3 c05/3");
}

async fn failed_event_holds_back_its_key(t: T) {
    publish(&t, &["a", "b", "a", "a"], 0).await;
    let due = claim(&t, 1).await;
    let both = Results { delivered: vec![due[0].event.id, due[1].event.id], ..failed(&due[2], Some(at(10))) };
    record(&t, both, 2).await;
    assert_eq!(text(&claim(&t, 9).await), "");
    let due = claim(&t, 10).await;
    assert_eq!(text(&due), "a02/2 a03/1");
    assert_eq!(t.rows("SELECT error FROM event WHERE tries = 2").await[0].text("error").unwrap(), "refused");
    record(&t, failed(&due[0], Some(at(12))), 11).await;
    assert_eq!(text(&claim(&t, 12).await), "a02/3 a03/1");
}

async fn event_that_is_given_up_lets_the_next_pass(t: T) {
    publish(&t, &["a", "b", "a", "b"], 0).await;
    let due = claim(&t, 1).await;
    let mut results = failed(&due[0], None);
    results.failed.extend(failed(&due[1], None).failed);
    record(&t, results, 2).await;
    let dead = t.store.outbox().dead(9).await.unwrap();
    assert_eq!(
        (dead.len(), dead[0].tries, dead[0].error.as_str(), dead[0].dead_at),
        (2, 1, "refused", at(2))
    );
    let alert = t.store.alerts().list(true, 9).await.unwrap().remove(0);
    assert_eq!((alert.alert.kind.as_str(), alert.alert.key.as_str(), alert.times), ("EVENTS_DEAD", "w", 2));
    assert!(alert.alert.message.contains("was given up after 1 tries: refused"), "{}", alert.alert.message);
    let due = claim(&t, 3).await;
    assert_eq!(text(&due), "a02/1 b03/1");
    record(&t, delivered(&due), 4).await;
    assert_eq!(t.store.outbox().redrive(None, "ada", at(5)).await.unwrap(), 2);
    assert_eq!(text(&claim(&t, 5).await), "a00/1 b01/1");
}

async fn unsent_event_is_due_again_without_a_try(t: T) {
    publish(&t, &["a", "b"], 0).await;
    let due = claim(&t, 1).await;
    record(&t, failed(&due[0], Some(at(2))), 1).await;
    let again = claim(&t, 2).await;
    assert_eq!(text(&again), "a00/2");
    record(&t, Results { unsent: vec![&again[0], &due[1]], ..Results::default() }, 3).await;
    assert_eq!(text(&claim(&t, 3).await), "a00/2 b01/1");
    let errors = t.rows("SELECT error FROM event ORDER BY seq").await;
    let errors: Vec<_> = errors.iter().map(|row| row.opt_text("error").unwrap()).collect();
    assert_eq!(errors, [Some("refused".to_owned()), None], "an earlier error is kept");
}

/// A dead event that is sent again goes before the events that a worker has at that time.
async fn event_of_another_worker_ends_what_a_claim_takes(t: T) {
    publish(&t, &["a", "a", "a"], 0).await;
    let due = claim(&t, 1).await;
    record(&t, failed(&due[0], None), 2).await;
    assert_eq!(text(&claim(&t, 3).await), "a01/1 a02/1");
    t.store.outbox().redrive(None, "ada", at(4)).await.unwrap();
    assert_eq!(text(&claim(&t, 5).await), "a00/1");
}

async fn each_key_is_claimed_by_one_of_many(t: T) {
    let keys: Vec<String> = (0..40).map(|n| format!("k{:02}-", n % 20)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    publish(&t, &keys, 0).await;
    let claims = (0..8).map(|_| {
        let t = t.clone();
        let most = ClaimLimits { events: 6, ..MOST };
        tokio::spawn(async move {
            let mut own = Vec::new();
            loop {
                let due = claim_of(&t, most, 1).await;
                if due.is_empty() {
                    return own;
                }
                own.extend(due.iter().map(|due| (due.event.key.clone(), due.event.id)));
            }
        })
    });
    let (mut all, mut count) = (BTreeSet::new(), 0);
    for claim in claims.collect::<Vec<_>>() {
        let own = claim.await.unwrap();
        count += own.len();
        all.extend(own);
    }
    let claimed: BTreeSet<&String> = all.iter().map(|(key, _)| key).collect();
    assert_eq!((claimed.len(), all.len()), (20, count), "no event is claimed twice");
}

/// Both change several events of one another's, which they lock in the same order.
async fn results_and_consumers_do_not_block_each_other(t: T) {
    let keys: Vec<String> = (0..64).map(|n| format!("k{n:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    publish(&t, &keys, 0).await;
    let due = Arc::new(claim(&t, 1).await);
    assert_eq!(due.len(), 64);
    let tasks = (0..8).map(|n| {
        let (t, due) = (t.clone(), due.clone());
        tokio::spawn(async move {
            let mut ids: Vec<EventId> = due.iter().map(|due| due.event.id).collect();
            if n % 2 == 0 {
                ids.reverse();
            }
            if n < 4 {
                t.store.outbox().taken(&ids[n..], "ada", at(2)).await.unwrap();
                return;
            }
            let failed = due.iter().take(n).map(|due| FailedTry {
                due,
                error: "refused".to_owned(),
                again_at: Some(at(9)),
            });
            let results =
                Results { delivered: ids, failed: failed.collect(), unsent: due[60..].iter().collect() };
            t.store.outbox().record(&results, at(2)).await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(t.store.outbox().pending(None, 99).await.unwrap().is_empty());
}

async fn events_are_inserted_into_a_table_together(t: T) {
    execute(
        &t.shop_url,
        "CREATE TABLE inbox (id TEXT PRIMARY KEY, topic TEXT NOT NULL, event_key TEXT NOT NULL CHECK (event_key <> 'bad'),
            payload TEXT NOT NULL, job TEXT NOT NULL, created_at_ms BIGINT NOT NULL)",
    )
    .await;
    let event = |key: &str, payload: &str| EventView {
        id: EventId::new(at(0)),
        topic: "w".to_owned(),
        key: key.to_owned(),
        payload: payload.to_owned(),
        job: "wallet".parse().unwrap(),
        created_at: at(0),
    };
    let (good, odd, bad) =
        (event("a", "{\"n\": 1.0}"), event("b", "it's \"so\" \\u0041 \u{1f980}\n"), event("bad", ""));
    let insert =
        async |events: &[&EventView]| t.store.outbox().insert_into_table(SHOP, "inbox", events).await;
    let error = insert(&[&good, &bad]).await.unwrap_err();
    assert!(error.is_refused, "{error:?}");
    insert(&[&good]).await.unwrap();
    insert(&[&odd, &good]).await.unwrap();
    insert(&[]).await.unwrap();
    let error = t.store.outbox().insert_into_table(SHOP, "no_table", &[&good]).await.unwrap_err();
    assert!(error.text.contains("no_table"), "{error:?}");
    let rows = inbox(&t).await;
    assert_eq!(rows, [good, odd].map(|event| (event.key, event.payload, at(0).as_millisecond())));
}

async fn inbox(t: &T) -> Vec<(String, String, i64)> {
    let db = t.store.datasources.get(SHOP).unwrap();
    let mut tx = db.begin_read().await.unwrap();
    let sql = "SELECT event_key, payload, created_at_ms FROM inbox ORDER BY event_key";
    let rows = tx.fetch_declared(sql, &[], crate::db::Most::ALL).await.unwrap();
    rows.iter()
        .map(|row| {
            (row.text("event_key").unwrap(), row.text("payload").unwrap(), row.int("created_at_ms").unwrap())
        })
        .collect()
}
