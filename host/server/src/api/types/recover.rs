//! Response types of recovery and self-checks.

use serde::{Deserialize, Serialize};

use super::Health;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovered {
    pub items: Vec<RecoveredItem>,
}

/// An item whose lease expired, and its state after the recovery.
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
    /// Whether no clock was ahead: the store has no times in the future, and no alert about them is open.
    pub clock: Answered,
    pub jobs: Vec<SelfCheck>,
    /// The memory that the attempts of the answering host may use together, and the source of that limit.
    #[serde(default)]
    pub memory: String,
}

/// The checks of one job.
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
