//! Engine events, published after their commit, for pages, metrics and tests. Listeners are optional. A
//! listener that is too slow misses events and reads the store instead.

use domain::id::{JobName, RunId};
use domain::outcome::Verdict;
use domain::tick::Fate;
use tokio::sync::broadcast;

/// Events that a slow listener may be behind.
const BEHIND_MAX: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    Ticked {
        job: JobName,
        fate: Fate,
    },
    RunStarted {
        job: JobName,
        run: RunId,
    },
    /// A page of the run's discovery was reconciled.
    RunProgressed {
        job: JobName,
        run: RunId,
    },
    Discovered {
        job: JobName,
        run: RunId,
    },
    DiscoveryFailed {
        job: JobName,
        run: RunId,
        code: String,
    },
    AttemptEnded {
        job: JobName,
        key: String,
        verdict: Verdict,
    },
    /// An attempt ended that no longer held its item: it changed nothing.
    AttemptStale {
        job: JobName,
        key: String,
    },
    Recovered {
        job: JobName,
        key: String,
    },
    /// A plugin's versions changed.
    Plugins,
    StoreLost,
    StoreBack,
}

impl EngineEvent {
    pub fn kind(&self) -> &'static str {
        match self {
            EngineEvent::Ticked { .. } => "ticked",
            EngineEvent::RunStarted { .. } => "run-started",
            EngineEvent::RunProgressed { .. } => "run-progressed",
            EngineEvent::Discovered { .. } => "discovered",
            EngineEvent::DiscoveryFailed { .. } => "discovery-failed",
            EngineEvent::AttemptEnded { .. } => "attempt-ended",
            EngineEvent::AttemptStale { .. } => "attempt-stale",
            EngineEvent::Recovered { .. } => "recovered",
            EngineEvent::Plugins => "plugins",
            EngineEvent::StoreLost => "store-lost",
            EngineEvent::StoreBack => "store-back",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Feed(broadcast::Sender<EngineEvent>);

impl Feed {
    pub fn new() -> Feed {
        Feed(broadcast::channel(BEHIND_MAX).0)
    }

    pub fn publish(&self, engine_event: EngineEvent) {
        // An error means only that there is no listener.
        let _ = self.0.send(engine_event);
    }

    pub fn listen(&self) -> broadcast::Receiver<EngineEvent> {
        self.0.subscribe()
    }
}
