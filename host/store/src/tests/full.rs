//! The one writer of SQLite: the next write after one that found no space, and the priorities of waiting
//! writes.

use std::time::Duration;
use test_support::{Kind, run};

use super::support::{T, at, job, lease};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_continue_after_one_without_disk_space() {
    run(Kind::Sqlite, after_no_room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_overtakes_waiting_writes() {
    run(Kind::Sqlite, renewal_first).await;
}

/// SQLite rolls back a transaction that finds no space, and the driver does not notice.
async fn after_no_room(t: T) {
    let mut tx = t.store.db.begin().await.unwrap();
    tx.execute_declared("PRAGMA max_page_count = 1", &[]).await.unwrap();
    let much = "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms) VALUES ('a', 'b', 'c', zeroblob(9000000), 0)";
    let full = tx.execute_declared(much, &[]).await.unwrap_err();
    assert_eq!(full.as_database_error().and_then(|e| e.code()).as_deref(), Some("13"), "{full}");
    drop(tx);
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM kv").await, 0);
}

async fn renewal_first(t: T) {
    let (standing, mut line) = tokio::sync::mpsc::channel(20);
    for _ in 0..20 {
        let (db, standing) = (t.store.db.clone(), standing.clone());
        tokio::spawn(async move {
            let tx = db.begin().await.unwrap();
            // tidy: sleep because a slow disk takes its time
            tokio::time::sleep(Duration::from_millis(100)).await;
            tx.commit().await.unwrap();
            standing.send(()).await.unwrap();
        });
    }
    // The first transaction is done, so the others are waiting by now.
    line.recv().await.unwrap();
    t.store.items().renew(lease(1, 1)).await.unwrap();
    let done = line.len();
    assert!(done <= 2, "{done} of 19 were before it");
}
