//! Memory isolation: an attempt never sees another attempt's data.

use domain::clock::Clock;
use domain::outcome::Outcome;
use test_support::needs;

use super::{Bench, job};
use crate::config::SandboxConfig;

/// A pool with a single slot: each attempt reuses the memory that the previous one has just released, of the
/// same plugin or another.
#[tokio::test]
async fn attempts_find_no_data_of_earlier_attempts() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    let config = SandboxConfig { attempts_max: 1, ..SandboxConfig::new(dir.path(), Clock::steady()) };
    let bench = Bench::of(dir, config, &["residue", "noop"], vec![job("residue"), job("noop")]).await;
    assert_eq!(bench.sandbox.allocator(), "pooling");
    for attempt in 0..10_000 {
        let report = bench.process("residue", "").await;
        assert_eq!(report.result, Ok(Outcome::Resolved { note: None }), "{attempt}: {}", report.log);
        if attempt % 8 == 0 {
            bench.still_works().await;
        }
    }
}
