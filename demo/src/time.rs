//! The demo's time: it may run faster than the clock on the wall.

use std::sync::Arc;
use std::time::Duration;

/// The longest single wait, in real time; keeps a wrong scale from making a wait that never ends.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub struct Time {
    /// Simulated milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// How long a simulated millisecond takes: 1.0 is real time, 1/30 makes a minute pass in two seconds.
    pub real_ms_per_simulated_ms: f64,
}

impl Time {
    pub fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    pub async fn sleep(&self, simulated_ms: u64) {
        let seconds = simulated_ms as f64 * self.real_ms_per_simulated_ms / 1_000.0;
        tokio::time::sleep(wait(seconds)).await;
    }
}

/// Negative and "not a number" wait not at all, too much waits `MAX_WAIT`.
fn wait(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_WAIT.as_secs_f64()).max(0.0))
}
