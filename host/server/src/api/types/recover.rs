//! Response types of recovery and self-checks.

use serde::{Deserialize, Serialize};

use super::Health;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovered {
    pub items: Vec<RecoveredItem>,
}

/// An item whose host went away, and its state now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecoveredItem {
    pub job: String,
    pub key: String,
    pub state: String,
    pub crashes: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Doctor {
    pub health: Health,
    /// Whether the clocks of hosts and database were never ahead, according to the open alerts.
    pub clock: Answered,
    pub jobs: Vec<SelfCheck>,
    /// The memory that the attempts of the answering host may use together, and the source of that limit.
    #[serde(default)]
    pub memory: String,
}

/// Five questions about a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelfCheck {
    pub job: String,
    pub lock: Answered,
    pub heartbeat: Answered,
    pub bounded_retries: Answered,
    pub metrics: Answered,
    pub audited_recovery: Answered,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered {
    pub yes: bool,
    pub how: String,
}
