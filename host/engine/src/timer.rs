//! Waits on the engine's clock, and time limits for store operations.

use std::future::Future;
use std::time::Duration;

use domain::clock::Clock;
use jiff::Timestamp;
use store::StoreError;

/// Maximum time of one store operation of a loop, in real time: a store may hang.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// Resolves when `clock` shows `at` or later; never for `None`.
pub async fn until(clock: &Clock, at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    match clock {
        Clock::Manual(manual) => manual.reaches(at).await,
        other => tokio::time::sleep(other.real_wait(at).unwrap_or_default()).await,
    }
}

pub async fn in_time<T>(piece: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::Unavailable(format!("no end within {PIECE_TIME_MAX:?}")));
    tokio::time::timeout(PIECE_TIME_MAX, piece).await.unwrap_or_else(late)
}
