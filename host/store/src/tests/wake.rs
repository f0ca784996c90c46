//! Waiting loops are notified of work: in this process, and on Postgres from other hosts.

use std::time::Duration;

use super::support::{Kind, T, config, conformance};
use crate::Store;

conformance! {
    work_is_heard_of_here,
    work_is_heard_of_elsewhere,
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn work_is_heard_of_here(t: T) {
    let woken = t.store.woken();
    t.store.wake();
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
}

async fn work_is_heard_of_elsewhere(t: T) {
    if t.kind == Kind::Sqlite {
        // Another process may not open the file.
        return;
    }
    let other = Store::open(&config(&t.url, &t.shop_url)).await.unwrap();
    let heard = async {
        // The other store may begin to listen a moment after it opens.
        let mut again = tokio::time::interval(Duration::from_millis(20));
        let woken = other.woken();
        tokio::pin!(woken);
        loop {
            tokio::select! {
                () = &mut woken => return,
                _ = again.tick() => t.store.wake(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    other.close().await;
}
