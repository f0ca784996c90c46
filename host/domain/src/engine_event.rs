//! Engine events: one for each committed change, for pages, metrics, tests and other hosts. They report that
//! something changed; the store has the details.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{JobName, RunId};
use crate::outcome::Verdict;
use crate::schedule::tick::Fate;

/// Its JSON form is the same for clients of the API and for other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EngineEvent {
    Ticked {
        #[serde(with = "as_text")]
        job: JobName,
        fate: Fate,
    },
    RunStarted {
        #[serde(with = "as_text")]
        job: JobName,
        #[serde(with = "as_text", rename = "run_id")]
        run: RunId,
    },
    /// A page of the run's discovery was reconciled.
    RunProgressed {
        #[serde(with = "as_text")]
        job: JobName,
        #[serde(with = "as_text", rename = "run_id")]
        run: RunId,
    },
    Discovered {
        #[serde(with = "as_text")]
        job: JobName,
        #[serde(with = "as_text", rename = "run_id")]
        run: RunId,
    },
    DiscoveryFailed {
        #[serde(with = "as_text")]
        job: JobName,
        #[serde(with = "as_text", rename = "run_id")]
        run: RunId,
        code: String,
    },
    /// Every item that the run queued had its attempt, or the run was cancelled.
    RunFinished {
        #[serde(with = "as_text")]
        job: JobName,
        #[serde(with = "as_text", rename = "run_id")]
        run: RunId,
    },
    /// Items were added by a person, a batch or another job.
    ItemsAdded {
        #[serde(with = "as_text")]
        job: JobName,
    },
    AttemptEnded {
        #[serde(with = "as_text")]
        job: JobName,
        key: String,
        verdict: Verdict,
    },
    /// An attempt ended that no longer held its item: it changed nothing.
    AttemptStale {
        #[serde(with = "as_text")]
        job: JobName,
        key: String,
    },
    Recovered {
        #[serde(with = "as_text")]
        job: JobName,
        key: String,
    },
    AlertRaised {
        job: String,
        #[serde(rename = "alert")]
        alert_kind: String,
        key: String,
    },
    /// An event of the outbox was given up.
    EventDead {
        topic: String,
    },
    /// The host wrote an audit record: a decision of a person, a setting, or an action of its own.
    Audited {
        actor: String,
        action: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        subject: String,
    },
    /// A plugin's versions changed on this host.
    Plugins,
    StoreLost,
    StoreBack,
    /// Events were lost on their way, most often those of another host: read the lists again.
    Missed,
}

impl EngineEvent {
    pub fn kind(&self) -> &'static str {
        match self {
            EngineEvent::Ticked { .. } => "ticked",
            EngineEvent::RunStarted { .. } => "run-started",
            EngineEvent::RunProgressed { .. } => "run-progressed",
            EngineEvent::Discovered { .. } => "discovered",
            EngineEvent::DiscoveryFailed { .. } => "discovery-failed",
            EngineEvent::RunFinished { .. } => "run-finished",
            EngineEvent::ItemsAdded { .. } => "items-added",
            EngineEvent::AttemptEnded { .. } => "attempt-ended",
            EngineEvent::AttemptStale { .. } => "attempt-stale",
            EngineEvent::Recovered { .. } => "recovered",
            EngineEvent::AlertRaised { .. } => "alert-raised",
            EngineEvent::EventDead { .. } => "event-dead",
            EngineEvent::Audited { .. } => "audited",
            EngineEvent::Plugins => "plugins",
            EngineEvent::StoreLost => "store-lost",
            EngineEvent::StoreBack => "store-back",
            EngineEvent::Missed => "missed",
        }
    }

    /// Whether waiting loops, also of other hosts, may find work after this event.
    pub fn makes_work(&self) -> bool {
        match self {
            EngineEvent::RunStarted { .. }
            | EngineEvent::RunProgressed { .. }
            | EngineEvent::Recovered { .. }
            | EngineEvent::Plugins
            | EngineEvent::Missed => true,
            EngineEvent::Audited { action, .. } => {
                WORK_ACTIONS.contains(&action.as_str()) || action.starts_with("plugin_")
            }
            _ => false,
        }
    }
}

/// Actions of audit records, beside those about plugins, after which there may be work. Others are frequent,
/// such as those about locks, and must not wake every loop of every host.
pub const WORK_ACTIONS: [&str; 13] = [
    "abandoned_manually",
    "batch_added",
    "batch_processed",
    "events_redriven",
    "item_added",
    "items_added",
    "job_edited",
    "left_to_a_person",
    "paused",
    "resolved_manually",
    "resumed",
    "retried_manually",
    "times_corrected",
];

/// Serializes names and ids as their text.
mod as_text {
    use super::*;

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
