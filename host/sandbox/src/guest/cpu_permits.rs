//! Fair scheduling of guests that compute for long. A runtime has one thread per core and polls its tasks in
//! the order in which they become ready. A few dozen computing guests would make each short attempt wait for
//! a tick of each of them. So guests above a threshold need a permit to compute, and one core is left to all
//! others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// CPU time without a permit: nearly all attempts end within it. Checked at each tick of the epoch.
pub const FREE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct CpuPermits(Arc<Semaphore>);

/// Held while a guest computes, until it waits or yields.
pub type CpuPermit = OwnedSemaphorePermit;

impl CpuPermits {
    pub fn new() -> CpuPermits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        CpuPermits(Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))))
    }

    /// The next permit, in the order of requests.
    pub async fn next(&self) -> Option<CpuPermit> {
        // The semaphore is never closed, so a permit always comes.
        self.0.clone().acquire_owned().await.ok()
    }
}
