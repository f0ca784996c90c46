//! Response types of named locks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Locks {
    pub locks: Vec<Lock>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    pub name: String,
    /// Higher than all earlier tokens of this lock.
    pub token: i64,
    pub holder: String,
    pub taken_at: Timestamp,
    /// `None` for an attempt's lock: it ends with the attempt.
    pub until: Option<Timestamp>,
}
