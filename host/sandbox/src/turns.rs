//! Who may compute for long. A runtime has as many threads as there are cores, and takes its tasks in the order in which
//! they are ready: a few dozen guests that compute would let each short attempt wait for a tick of each of them.
//! So guests that have computed for a while take turns, and one core is left to all others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is free: nearly all attempts have ended by then. It is looked at with each tick of the epoch.
pub const FREE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Turns(Arc<Semaphore>);

/// Held while a guest computes, until it waits for anything or lets others go ahead.
pub type Turn = OwnedSemaphorePermit;

impl Turns {
    pub fn new() -> Turns {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Turns(Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))))
    }

    /// The next one, in the order in which it was asked for.
    pub async fn next(&self) -> Option<Turn> {
        // Never closed, so there is one in the end.
        self.0.clone().acquire_owned().await.ok()
    }
}
