//! A disk that fails to write: fsync returns EIO.

use std::time::Duration;

use test_support::needs;
use tokio::time::Instant;

use super::bench::{Bench, pass, says};
use super::strace::Strace;
use crate::support::wait::{LOADED, until};

const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_never_a_success() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let mut bench = Bench::start(&store, &[]).await;
    let load = bench.client.start(4, 20);
    let mut strace = Strace::new();
    // Fail the first sync of each connection, then every third, every fifth, and all.
    for failing in ["error=EIO:when=1", "error=EIO:when=2+3", "error=EIO:when=5+5", "error=EIO"] {
        bench.client.until_acknowledged().await;
        let refused = bench.client.count().1;
        strace.attach(bench.pid, failing).await;
        if failing == "error=EIO" {
            until("a request is refused", async || bench.client.count().1 > refused).await;
        }
        pass(Duration::from_secs(3)).await;
        let calls = strace.detach().await;
        let mended = Instant::now();
        bench.client.until_acknowledged().await;
        bench.until_readyz(200).await;
        let (took, failed) = (mended.elapsed(), begun_anew(&calls));
        eprintln!(
            "{failing}: {failed} failed syncs of the log, back after {took:?}: {:?}",
            bench.client.count()
        );
        assert!(failed > 0 && took < BACK_WITHIN * LOADED);
    }
    load.end().await;
    for refused in bench.client.refused.lock().unwrap().iter() {
        assert_eq!((refused.status, refused.code().as_str()), (503, "store-unavailable"));
        says(
            &refused.body,
            &["check the disk of the database", "nothing is acknowledged until a write succeeds"],
        );
    }
    bench.settle().await;
    bench.databases.store_url = format!("sqlite://{}", bench.copy(&store, "copy.db").await.display());
    bench.check().await;
    bench.end().await;
}

/// After a failed sync, the host must truncate the log before it appends. Returns the number of failures.
fn begun_anew(calls: &[String]) -> usize {
    let (mut failed, mut doubtful) = (0, None);
    for call in calls.iter().filter(|call| call.contains("store.db-wal>")) {
        if call.contains("EIO") {
            doubtful.get_or_insert(call);
            failed += 1;
        } else if call.contains("ftruncate(") {
            doubtful = None;
        } else if call.contains("pwrite64(") {
            assert_eq!(doubtful, None, "appended to a log of which a sync failed: {call}");
        }
    }
    failed
}
