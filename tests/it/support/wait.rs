//! Waits for another process.

use std::time::{Duration, Instant};

/// Longest wait for something that must happen; hitting it fails the test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How many times as long as promised something may take, because the tests share their machine.
pub const LOADED: u32 = 5;
const POLL: Duration = Duration::from_millis(5);

/// Polls from outside until the condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        // tidy: sleep because another process gives no signal of its progress
        tokio::time::sleep(POLL).await;
    }
}
