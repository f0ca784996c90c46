//! Old history is removed; open rows stay.

use test_support::on_both;

use super::support::{T, at, job, permanent, resolved};

on_both! { old_ended_rows_are_removed }

const DAY: i64 = 24 * 3_600;

async fn old_ended_rows_are_removed(t: T) {
    let old = job();
    t.attempt("done", resolved(), 0).await;
    t.attempt("open", permanent(), 1).await;
    t.attempt("new", resolved(), 2 * DAY).await;
    t.tamper("INSERT INTO tick (job, at_ms, fate, decided_at_ms) VALUES ('wallet', 1, 'ran', 1), ('wallet', 2, 'buffered', 2)")
        .await
        .unwrap();
    let counts = async || {
        let mut all = Vec::new();
        for table in ["item", "run", "attempt", "tick", "event"] {
            all.push(t.number(&format!("SELECT COUNT(*) AS n FROM {table}")).await);
        }
        all
    };
    assert_eq!(counts().await, [3, 3, 3, 2, 0]);
    let removed = t.store.history().prune(&old.name, at(DAY), at(2 * DAY)).await.unwrap();
    assert_eq!(removed, 4, "two runs, an attempt and a tick");
    assert_eq!(counts().await, [3, 1, 2, 1, 0], "the open item keeps its attempt, the buffered tick waits");
    assert!(
        t.trail().await.contains("tidemill history_removed wallet: 1 ticks, 2 runs, 1 attempts from before")
    );
    assert_eq!(t.store.history().prune(&old.name, at(DAY), at(2 * DAY)).await.unwrap(), 0);
    t.discover(&old, &["done"], 2 * DAY).await;
    assert_eq!(t.claim_one(2 * DAY).await.key, "done", "what is found again goes on");
}
