//! Supervised background loops. A loop that panics, or returns while the host runs, is logged, counted and
//! restarted after a pause. There is one registry per open store, shared by the loops of the store, the
//! engine and the server.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause before a failed loop is restarted. It doubles with each further failure, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Shorter than a lease, so that a failed heartbeat is retried before its leases expire.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long a loop must run after a failure before it counts as running again.
const PROBATION: Duration = Duration::from_secs(5);
/// After running this long, a loop that fails starts with the first pause again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// The names and states of all supervised loops.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    states: Mutex<BTreeMap<String, State>>,
    changed: Notify,
}

#[derive(Debug, Clone, Default)]
struct State {
    failures: u64,
    down: Option<String>,
}

/// The state of one loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    pub name: String,
    /// Panics and unexpected ends since the start of the process.
    pub failures: u64,
    /// Why the loop is not running, or failed a moment ago.
    pub down: Option<String>,
}

impl Tasks {
    /// Runs the loop `run` until `stop` is cancelled and it returns.
    ///
    /// `run` is called again after each failure. State that must survive a failure belongs to the closure,
    /// not to the loop.
    pub async fn supervise<F: Future<Output = ()>>(
        self,
        name: impl Into<String>,
        stop: CancellationToken,
        mut run: impl FnMut() -> F,
    ) {
        let name = name.into();
        let name = name.as_str();
        self.states().entry(name.to_owned()).or_default();
        let mut pause = PAUSE_FIRST;
        loop {
            let began = Instant::now();
            let ended = self.once(name, run()).await;
            if stop.is_cancelled() && ended.is_ok() {
                return self.up(name);
            }
            let why = match ended {
                Ok(()) => "it returned although the host runs".to_owned(),
                Err(panic) => format!("it panicked: {}", message(panic.as_ref())),
            };
            tracing::error!(task = name, %why, "a background task failed");
            self.failed(name, why);
            if began.elapsed() >= FORGIVEN_AFTER {
                pause = PAUSE_FIRST;
            }
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Runs the loop once, until it returns or panics.
    async fn once(&self, name: &str, run: impl Future<Output = ()>) -> Result<(), Box<dyn Any + Send>> {
        let mut life = pin!(AssertUnwindSafe(run).catch_unwind());
        if let Ok(ended) = tokio::time::timeout(PROBATION, &mut life).await {
            return ended;
        }
        self.up(name);
        life.await
    }

    pub fn status(&self) -> Vec<TaskStatus> {
        let states = self.states();
        let status = |(name, state): (&String, &State)| TaskStatus {
            name: name.clone(),
            failures: state.failures,
            down: state.down.clone(),
        };
        states.iter().map(status).collect()
    }

    /// Whether this loop failed and is not running again yet.
    pub fn is_down(&self, name: &str) -> bool {
        self.states().get(name).is_some_and(|state| state.down.is_some())
    }

    /// Resolves when a loop fails or runs again. Create it before reading the status, and await it
    /// afterwards.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Counts a panic outside of a loop, for example in an attempt. It does not mark a loop as down.
    pub fn panicked(&self, name: &str) {
        self.states().entry(name.to_owned()).or_default().failures += 1;
    }

    fn failed(&self, name: &str, why: String) {
        let mut states = self.states();
        let state = states.entry(name.to_owned()).or_default();
        state.failures += 1;
        state.down = Some(why);
        drop(states);
        self.0.changed.notify_waiters();
    }

    fn up(&self, name: &str) {
        let was_down = self.states().get_mut(name).is_some_and(|state| state.down.take().is_some());
        if was_down {
            tracing::info!(task = name, "the background task runs again");
            self.0.changed.notify_waiters();
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message of a panic, if it is text.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_owned())
}
