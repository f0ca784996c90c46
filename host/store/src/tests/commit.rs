//! The end of an attempt commits all its effects with its outcome, or nothing.

use std::sync::Arc;

use domain::effect::{Effect, Event};
use domain::failure::Failure;
use domain::id::EventId;
use domain::item::{Claimed, State};
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, end, failed, host, job, lease, page, resolved};
use crate::StoreError;
use crate::attempts::commit::{AttemptEnd, Committed, Effects};
use crate::attempts::kv::KvWrite;
use crate::db::sql::Sql;

on_both! {
    effects_are_committed_with_the_outcome,
    attempt_is_recorded,
    stale_epoch_changes_nothing,
    stale_attempt_id_changes_nothing,
    end_whose_answer_was_lost_is_recognized,
    same_end_many_times_at_once_counts_once,
    end_without_its_claim_is_stale,
    end_waits_for_a_change_of_its_item,
    interrupted_attempt_is_put_back_uncounted,
    uncounted_ends_leave_the_attempts,
    uncounted_ends_in_a_row_are_counted,
    bad_end_of_many_fails_alone,
    refused_text_is_no_outage,
    failed_end_can_be_sent_again,
    close_commits_what_was_queued,
}

fn effects(tag: &str) -> Effects {
    let write = |key: &str, value: Option<&str>| KvWrite {
        bucket: "b".to_owned(),
        key: key.to_owned(),
        value: value.map(|text| text.as_bytes().to_vec()),
        ..KvWrite::default()
    };
    let event = Event { id: EventId::new(at(0)), seq: 1, ..Event::new("wallets", tag, "{}") };
    let kv = vec![write(tag, Some("value")), write("old", None)];
    Effects { kv, requested: vec![Effect::Event(event)] }
}

fn end_with_effects(item: &Claimed, now: i64) -> AttemptEnd {
    AttemptEnd { effects: effects(&item.key), ..end(item, &resolved(), now) }
}

/// On Postgres, the item is not the row any more that the end's first statement found.
async fn end_waits_for_a_change_of_its_item(t: T) {
    const REFRESH: Sql = Sql::same(
        "UPDATE item SET payload = 'new', run_id = NULL, version = version + 1 WHERE item_key = 'a'",
    );
    let (run, _) = t.discover(&job(), &["a", "b"], 0).await;
    let items = t.claim(2, 1).await;
    let mut change = t.store.db.begin().await.unwrap();
    change.execute(REFRESH, &[]).await.unwrap();
    let ends = items.into_iter().map(|item| {
        let t = t.clone();
        tokio::spawn(async move { t.end(&item, resolved(), 2).await })
    });
    let ends: Vec<_> = ends.collect();
    if t.store.db.is_postgres() {
        let blocked = "SELECT COUNT(*) AS n FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while t.number(blocked).await == 0 {
            tokio::task::yield_now().await;
        }
    }
    change.commit().await.unwrap();
    for end in ends {
        assert_eq!(end.await.unwrap(), Committed::Applied);
    }
    let item = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((item.state, item.payload.as_str()), (State::Resolved, "new"));
    assert_eq!(t.run_view(run).await.done, 1, "a no longer counts for the run");
    let resolved = "SELECT CAST(SUM(items) AS BIGINT) AS n FROM item_count WHERE class = 'resolved'";
    assert_eq!(t.number(resolved).await, 2);
}

async fn send(t: &T, end: AttemptEnd) -> Result<Committed, StoreError> {
    t.store.attempts().end(Arc::new(end)).await
}

async fn effects_are_committed_with_the_outcome(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    t.tamper(
        "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms) VALUES ('wallet', 'b', 'old', 'x', 1)",
    )
    .await
    .unwrap();
    assert_eq!(send(&t, end_with_effects(&item, 1)).await.unwrap(), Committed::Applied);
    assert_eq!(t.items().await, "a resolved attempts=1 due=1\n");
    let kv = t.rows("SELECT job, bucket, kv_key, value FROM kv").await;
    assert_eq!(kv.len(), 1, "one is written and one deleted");
    assert_eq!(
        (kv[0].text("kv_key").unwrap(), kv[0].blob("value").unwrap()),
        ("a".to_owned(), b"value".to_vec())
    );
    let events = t.store.outbox().pending(None, 9).await.unwrap();
    assert_eq!((events.len(), events[0].key.as_str(), events[0].job.as_str()), (1, "a", "wallet"));
}

async fn attempt_is_recorded(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(3).await;
    let digest = domain::id::Digest([7; 32]);
    send(&t, AttemptEnd { digest: Some(digest), ..end(&item, &failed(), 5) }).await.unwrap();
    let attempt = t.store.items().attempts("wallet", "a", 9).await.unwrap().remove(0);
    assert_eq!(attempt.digest, Some(digest.to_string()));
    assert_eq!((attempt.epoch, attempt.number, attempt.verdict.as_str()), (1, 1, "failed"));
    assert_eq!((attempt.started_at, attempt.ended_at, attempt.host), (at(3), at(5), host(1)));
    assert_eq!((attempt.wall_us, attempt.memory_bytes_max, attempt.log.as_str()), (1_500, 65_536, "a line"));
    assert_eq!((attempt.cpu_us, attempt.host_calls, attempt.host_bytes), (700, 3, 99));
    assert_eq!(attempt.error.unwrap().code, "flaky");
}

/// An item whose first holder lost it to host 2, with a kv entry, an event and a run that a stale end could
/// damage.
async fn lost_item(t: &T) -> (Claimed, Claimed) {
    t.discover(&job(), &["a", "b"], 0).await;
    let other = t.claim(1, 0).await.remove(0);
    send(t, end_with_effects(&other, 1)).await.unwrap();
    let stale = t.claim_one(1).await;
    t.store.items().recover(None, |_| 5, at(20)).await.unwrap();
    let holder = t.store.items().claim(&job(), lease(2, 20), 1).await.unwrap().remove(0);
    (stale, holder)
}

async fn stale_epoch_changes_nothing(t: T) {
    let (stale, holder) = lost_item(&t).await;
    let before = t.everything().await;
    assert_eq!(send(&t, end_with_effects(&stale, 21)).await.unwrap(), Committed::Stale);
    let forged = Claimed { attempt_id: holder.attempt_id, ..stale.clone() };
    assert_eq!(send(&t, end_with_effects(&forged, 21)).await.unwrap(), Committed::Stale);
    assert_eq!(t.end(&forged, Err(Failure::Interrupted), 21).await, Committed::Stale);
    assert_eq!(t.everything().await, before);
    assert_eq!(send(&t, end_with_effects(&holder, 22)).await.unwrap(), Committed::Applied);
}

async fn stale_attempt_id_changes_nothing(t: T) {
    let (stale, holder) = lost_item(&t).await;
    let before = t.everything().await;
    let forged = Claimed { epoch: holder.epoch, ..stale };
    assert_eq!(send(&t, end_with_effects(&forged, 21)).await.unwrap(), Committed::Stale);
    assert_eq!(t.end(&forged, Err(Failure::Interrupted), 21).await, Committed::Stale);
    assert_eq!(t.everything().await, before);
}

/// If the commit result was lost, the end is sent again: it is recognized, and nothing changes.
async fn end_whose_answer_was_lost_is_recognized(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    send(&t, end_with_effects(&item, 1)).await.unwrap();
    let before = t.everything().await;
    assert_eq!(send(&t, end_with_effects(&item, 2)).await.unwrap(), Committed::Applied);
    assert_eq!(t.end(&item, failed(), 2).await, Committed::Applied);
    assert_eq!(t.everything().await, before);
    t.discover(&job(), &["a"], 3).await;
    t.claim_one(3).await;
    let before = t.everything().await;
    assert_eq!(
        send(&t, end_with_effects(&item, 4)).await.unwrap(),
        Committed::Applied,
        "its next holder is let alone"
    );
    assert_eq!(t.everything().await, before);
}

async fn same_end_many_times_at_once_counts_once(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b"], 0).await;
    let item = t.claim(1, 0).await.remove(0);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (t, item) = (t.clone(), item.clone());
            tokio::spawn(async move { send(&t, end_with_effects(&item, 1)).await.unwrap() })
        })
        .collect();
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Committed::Applied);
    }
    assert_eq!(t.run_view(id).await.done, 1);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM event").await, 1);
}

/// The epoch alone is not enough: after a restore of the database it may belong to another claim.
async fn end_without_its_claim_is_stale(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    t.tamper("DELETE FROM claim").await.unwrap();
    let before = t.everything().await;
    assert_eq!(send(&t, end_with_effects(&item, 1)).await.unwrap(), Committed::Stale);
    assert_eq!(t.end(&item, Err(Failure::Interrupted), 1).await, Committed::Stale);
    assert_eq!(t.everything().await, before);
}

async fn interrupted_attempt_is_put_back_uncounted(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b"], 0).await;
    let item = t.claim(1, 0).await.remove(0);
    let interrupted = Err(Failure::Interrupted);
    assert_eq!(t.end(&item, interrupted, 5).await, Committed::Applied);
    assert_eq!(t.run_view(id).await.done, 0);
    let again = t.claim(1, 5).await.remove(0);
    assert_eq!((again.id, again.attempts, again.run_id), (item.id, 0, Some(id)), "ahead of b");
    assert_eq!(again.idempotency_key(), item.idempotency_key());
    assert_eq!(again.first_attempt_at, None);
}

async fn uncounted_ends_leave_the_attempts(t: T) {
    use domain::outcome::Outcome;
    t.attempt("a", failed(), 0).await;
    let item = t.claim_one(10).await;
    t.end(&item, Ok(Outcome::Snoozed { until: at(20) }), 11).await;
    let item = t.claim_one(21).await;
    let error = domain::failure::ErrorInfo::new("busy", "later");
    let retry_after = jiff::SignedDuration::from_secs(9);
    t.end(&item, Err(Failure::Throttled { retry_after, error }), 22).await;
    assert_eq!(
        t.items().await,
        "a retrying attempts=1 due=42 busy: later\n",
        "the second in a row backs off"
    );
    let item = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!(item.last_attempt_at, Some(at(0)));
}

async fn uncounted_ends_in_a_row_are_counted(t: T) {
    use domain::failure::ErrorInfo;
    use domain::outcome::Outcome;
    let snoozed = |now| Ok(Outcome::Snoozed { until: at(now) });
    let number = || t.number("SELECT deferrals AS n FROM item");
    t.attempt("a", snoozed(0), 0).await;
    assert_eq!(number().await, 1);
    let lost = t.claim_one(100).await;
    assert_eq!(lost.deferrals, 1);
    t.store.items().recover(Some(super::support::host(1)), |_| 5, at(101)).await.unwrap();
    let item = t.claim_one(102).await;
    t.end(&item, Err(Failure::Interrupted), 103).await;
    let item = t.claim_one(104).await;
    assert_eq!(item.deferrals, 1, "neither a crash nor a stop ends the row");
    t.end(&item, snoozed(104), 104).await;
    assert_eq!(number().await, 2);
    let item = t.claim_one(1_000).await;
    t.end(&item, failed(), 1_000).await;
    assert_eq!(number().await, 0, "a counted attempt does");

    t.tamper("UPDATE item SET deferrals = 499").await.unwrap();
    let item = t.claim_one(2_000).await;
    let busy = Err(Failure::Throttled {
        retry_after: jiff::SignedDuration::ZERO,
        error: ErrorInfo::new("busy", "no"),
    });
    t.end(&item, busy, 2_000).await;
    let view = t.store.items().get("wallet", "a").await.unwrap().unwrap();
    assert_eq!((view.state, view.attempts), (domain::item::State::ManualRequired, 1));
    assert_eq!(view.error.unwrap().code, "deferrals-exhausted");
    t.tamper("UPDATE item SET deferrals = 499").await.unwrap();
    let retry = crate::items::DecisionRequest::new(domain::item::ManualDecision::Retry, None, "ada");
    t.store.items().decide("wallet", "a", retry, at(2_001)).await.unwrap();
    assert_eq!(number().await, 0, "a person's retry restarts the count");
}

async fn bad_end_of_many_fails_alone(t: T) {
    const ENDS: usize = 1_000;
    const BAD: usize = 437;
    let keys: Vec<String> = (0..ENDS).map(|n| format!("k{n:04}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let run = t.run(&job(), 0).await;
    t.put(&run, &job(), &page(&keys, None), 0).await;
    let items = t.claim(1_000, 0).await;
    let bad_key = items[BAD].key.clone();

    let ends: Vec<AttemptEnd> = items.iter().map(|item| end_with_effects(item, 1)).collect();
    let Effect::Event(Event { id: bad_id, .. }) = ends[BAD].effects.requested[0] else { panic!() };
    let taken = format!(
        "INSERT INTO event (id, seq, topic, event_key, payload, job, item_id, epoch, created_at_ms)
         VALUES ('{bad_id}', 0, 'x', 'x', 'x', 'x', 'x', 0, 0)"
    );
    t.tamper(&taken).await.unwrap();
    let senders: Vec<_> = ends
        .into_iter()
        .map(|end| {
            let t = t.clone();
            tokio::spawn(async move { (end.item.key.clone(), send(&t, end).await) })
        })
        .collect();
    let mut refused = Vec::new();
    for sender in senders {
        match sender.await.unwrap() {
            (_, Ok(committed)) => assert_eq!(committed, Committed::Applied),
            (key, Err(error)) => {
                assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
                refused.push(key);
            }
        }
    }
    assert_eq!(refused, [bad_key.as_str()]);
    assert_eq!(t.run_view(run.id).await.done, 999);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM item WHERE state = 'resolved'").await, 999);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM attempt").await, 999);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM kv").await, 999);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM event").await, 1_000);
    let bad = t.store.items().get("wallet", &bad_key).await.unwrap().unwrap();
    assert_eq!(bad.shown, "running", "it is still held, and recovered when its lease is over");
}

/// Reported as an outage, it would be retried forever.
async fn refused_text_is_no_outage(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    let with_zero = AttemptEnd { log: "zero \0 byte".to_owned(), ..end(&item, &resolved(), 1) };
    match send(&t, with_zero).await {
        Err(StoreError::Refused(text)) => {
            expect!["a text with a zero byte cannot be stored or searched for"].assert_eq(&text);
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn failed_end_can_be_sent_again(t: T) {
    t.discover(&job(), &["a"], 0).await;
    let item = t.claim_one(0).await;
    t.tamper("ALTER TABLE attempt RENAME TO attempt_away").await.unwrap();
    let before = t.number("SELECT CAST(SUM(version) AS BIGINT) AS n FROM item").await;
    send(&t, end_with_effects(&item, 1)).await.unwrap_err();
    assert_eq!(t.number("SELECT CAST(SUM(version) AS BIGINT) AS n FROM item").await, before);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM event").await, 0);
    t.tamper("ALTER TABLE attempt_away RENAME TO attempt").await.unwrap();
    assert_eq!(send(&t, end_with_effects(&item, 2)).await.unwrap(), Committed::Applied);
}

async fn close_commits_what_was_queued(t: T) {
    let keys: Vec<String> = (0..50).map(|n| format!("k{n:04}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    t.discover(&job(), &keys, 0).await;
    let items = t.claim(50, 0).await;
    let sending = async {
        let sends = items.iter().map(|item| send(&t, end_with_effects(item, 1)));
        futures_util::future::join_all(sends).await
    };
    let (sent, ()) = futures_util::future::join(sending, t.store.close()).await;
    assert!(sent.iter().all(|result| matches!(result, Ok(Committed::Applied))), "{sent:?}");
    let late = send(&t, end_with_effects(&items[0], 2)).await.unwrap_err();
    expect!["the database is not available: the store is closed"].assert_eq(&late.to_string());
}
