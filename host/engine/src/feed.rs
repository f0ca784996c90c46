//! Engine events, published after their commit, for pages, metrics and tests. Listeners are optional. A
//! listener that is too slow misses events and reads the store instead.

use domain::id::{JobName, RunId};
use domain::outcome::Verdict;
use domain::tick::Fate;
use tokio::sync::broadcast;

/// Events that a slow listener may be behind.
const BEHIND_MAX: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
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

impl Happening {
    pub fn kind(&self) -> &'static str {
        match self {
            Happening::Ticked { .. } => "ticked",
            Happening::RunStarted { .. } => "run-started",
            Happening::RunProgressed { .. } => "run-progressed",
            Happening::Discovered { .. } => "discovered",
            Happening::DiscoveryFailed { .. } => "discovery-failed",
            Happening::AttemptEnded { .. } => "attempt-ended",
            Happening::AttemptStale { .. } => "attempt-stale",
            Happening::Recovered { .. } => "recovered",
            Happening::Plugins => "plugins",
            Happening::StoreLost => "store-lost",
            Happening::StoreBack => "store-back",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Feed(broadcast::Sender<Happening>);

impl Feed {
    pub fn new() -> Feed {
        Feed(broadcast::channel(BEHIND_MAX).0)
    }

    pub fn publish(&self, happening: Happening) {
        // An error means only that there is no listener.
        let _ = self.0.send(happening);
    }

    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }
}
