//! Keeps more items waiting than the host can process.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::site::Site;

/// Items per run; the next run starts when fewer than half as many are waiting.
const RUN_ITEMS: i64 = 4_000;
const PERIOD: Duration = Duration::from_millis(100);
const SETTLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Runs until dropped.
pub async fn keep_busy(site: &Site) -> Infallible {
    let mut asked = 0;
    loop {
        if site.discovering().await == 0 && site.backlog().await < RUN_ITEMS / 2 {
            site.find(asked + 1, asked + RUN_ITEMS).await;
            asked += RUN_ITEMS;
        }
        // tidy: sleep because another process gives no signal of its progress
        tokio::time::sleep(PERIOD).await;
    }
}

/// Waits until no work is open. Work that is still open after a long time counts as lost.
pub async fn settle(site: &Site) {
    let began = Instant::now();
    while site.open().await > 0 && began.elapsed() < SETTLE_TIME_MAX {
        // tidy: sleep because another process gives no signal of its progress
        tokio::time::sleep(PERIOD).await;
    }
}
