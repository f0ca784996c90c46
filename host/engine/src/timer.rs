//! Waiting, by whatever clock the engine was given.

use domain::clock::Clock;
use jiff::Timestamp;

/// Resolves when `clock` shows `at` or later; never for none.
pub async fn until(clock: &Clock, at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    match clock {
        Clock::Manual(manual) => manual.reaches(at).await,
        other => tokio::time::sleep(other.real_wait(at).unwrap_or_default()).await,
    }
}
