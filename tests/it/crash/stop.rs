//! A stop during work that does not end in time.

use std::time::{Duration, Instant};

use super::site::Site;
use crate::support::database::{Kind, RUNNING};
use crate::support::wait::until;

/// Each item takes far longer than the ten seconds that a stop waits.
const JOB: &str = "
[jobs.sleeper]
plugin = \"sleeper\"
concurrency = 4
[jobs.sleeper.config]
count = 3
ms = 120000
";
const ITEM_TIME: Duration = Duration::from_secs(120);

pub async fn s1_a_stop_by_sigterm_puts_work_back_uncounted(kind: Kind) {
    let site = Site::new(kind, "sleeper", JOB).await;
    let place = site.place("one");
    let host = place.start().await;
    host.post("/api/v1/jobs/sleeper").await.unwrap();
    let running = async |epoch: u32| {
        let sql = format!("SELECT COUNT(*) FROM {RUNNING} WHERE epoch = {epoch}");
        site.databases.store_number(&sql).await == 3
    };
    until("all items run", async || running(1).await).await;
    let stopping = Instant::now();
    host.terminate().await;
    let took = stopping.elapsed();
    assert!(took < ITEM_TIME, "the stop waited for an item: {took:?}");

    let items = "SELECT item_key || ' ' || state || ' ' || attempts || ' ' || crashes FROM item ORDER BY 1";
    let expected = ["s-1 scheduled 0 0", "s-2 scheduled 0 0", "s-3 scheduled 0 0"];
    assert_eq!(site.databases.store_texts(items).await, expected);
    let attempts = "SELECT verdict FROM attempt";
    assert_eq!(site.databases.store_texts(attempts).await, ["interrupted"; 3]);
    let stopped = "SELECT COUNT(*) FROM host WHERE stopped_at_ms IS NOT NULL";
    assert_eq!(site.databases.store_number(stopped).await, 1);

    let host = place.start().await;
    until("the next start takes them up", async || running(2).await).await;
    host.kill9().await;
    println!("{kind:?}: stopped after {took:.1?}");
}
