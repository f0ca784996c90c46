//! The demo's time, which may run faster than real time.

use std::sync::Arc;
use std::time::Duration;

/// The longest single wait in real time. Prevents an endless wait if the scale is wrong.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub struct Time {
    /// Simulated milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Real duration of a simulated millisecond: 1.0 is real time, 1/30 makes a minute pass in two seconds.
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

/// Negative values and NaN do not wait; too large values wait `MAX_WAIT`.
fn wait(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_WAIT.as_secs_f64()).max(0.0))
}
