//! Events stay until they are taken.

use std::sync::Arc;

use domain::effect::{Effect, Event};
use domain::id::EventId;
use test_support::on_both;

use super::support::{T, at, end, job, resolved};
use crate::attempts::commit::{AttemptEnd, Effects};

on_both! {
    events_wait_in_order_until_taken,
    events_are_filtered_by_topic,
    event_is_taken_once,
}

/// One attempt that publishes `topic/key` for each of `names`, in the given order.
async fn publish(t: &T, item: &str, names: &[(&str, &str)], now: i64) {
    t.discover(&job(), &[item], now).await;
    let item = t.claim_one(now).await;
    let event = |(seq, (topic, key)): (usize, &(&str, &str))| {
        let (id, seq) = (EventId::new(at(now)), i64::try_from(seq).unwrap());
        Effect::Event(Event { id, seq, ..Event::new(*topic, *key, "{\"n\":1}") })
    };
    let effects = Effects { requested: names.iter().enumerate().map(event).collect(), ..Effects::default() };
    let end = AttemptEnd { effects, ..end(&item, &resolved(), now) };
    t.store.attempts().end(Arc::new(end)).await.unwrap();
}

async fn pending(t: &T, topic: Option<&str>, limit: u32) -> Vec<String> {
    let events = t.store.outbox().pending(topic, limit).await.unwrap();
    events.into_iter().map(|event| event.key).collect()
}

async fn events_wait_in_order_until_taken(t: T) {
    publish(&t, "x", &[("w", "3"), ("w", "4")], 10).await;
    publish(&t, "y", &[("w", "1"), ("w", "2")], 5).await;
    assert_eq!(pending(&t, None, 9).await, ["1", "2", "3", "4"]);
    assert_eq!(pending(&t, None, 3).await, ["1", "2", "3"]);
    assert_eq!(pending(&t, None, 9).await.len(), 4, "looking takes nothing");
    let events = t.store.outbox().pending(None, 2).await.unwrap();
    assert_eq!((events[0].payload.as_str(), events[0].created_at), ("{\"n\":1}", at(5)));
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    assert_eq!(t.store.outbox().taken(&ids, "ada", at(20)).await.unwrap(), 2);
    assert_eq!(pending(&t, None, 9).await, ["3", "4"]);
}

async fn events_are_filtered_by_topic(t: T) {
    publish(&t, "x", &[("w", "1"), ("mail", "2"), ("w", "3")], 0).await;
    assert_eq!(pending(&t, Some("w"), 9).await, ["1", "3"]);
    assert_eq!(pending(&t, Some("mail"), 9).await, ["2"]);
    assert!(pending(&t, Some("other"), 9).await.is_empty());
}

async fn event_is_taken_once(t: T) {
    publish(&t, "x", &[("w", "1")], 0).await;
    let id = t.store.outbox().pending(None, 1).await.unwrap()[0].id;
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let t = t.clone();
            tokio::spawn(async move { t.store.outbox().taken(&[id], "ada", at(1)).await.unwrap() })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += taker.await.unwrap();
    }
    assert_eq!(taken, 1);
    assert_eq!(t.store.outbox().taken(&[id, EventId::new(at(0))], "ada", at(2)).await.unwrap(), 0);
}
