//! The seam between the engine and whatever runs a plugin. It cannot fail: whatever goes wrong
//! in there is the attempt's failure. To cancel a call is to drop its future.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::id::{Digest, RunId};
use crate::item::Claimed;
use crate::job::JobSpec;
use crate::outcome::{Failure, Outcome};
use crate::scope::Scope;

#[async_trait]
pub trait Runner: Send + Sync {
    /// Whether attempts of `job` can start now.
    fn readiness(&self, job: &JobSpec) -> Readiness;

    async fn discover(&self, call: Call<PageRequest>) -> Report<Page>;

    async fn process(&self, call: Call<Claimed>) -> Report<Outcome>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready(Digest),
    /// Why not, in words for people.
    Blocked(String),
}

/// One call of a plugin.
pub struct Call<T> {
    pub job: Arc<JobSpec>,
    pub input: T,
    pub scope: Arc<dyn Scope>,
}

#[derive(Debug, Clone)]
pub struct PageRequest {
    pub run_id: RunId,
    pub trigger: String,
    /// The instant of the schedule that the run is for.
    pub scheduled_at: Option<Timestamp>,
    /// What the run was started with: a JSON document.
    pub params: Option<String>,
    pub cursor: Option<String>,
    pub limit: u32,
    pub now: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Found>,
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub payload: String,
}

#[derive(Debug, Clone)]
pub struct Report<T> {
    pub result: Result<T, Failure>,
    /// The version that ran; none if none was there to run.
    pub digest: Option<Digest>,
    pub usage: Usage,
    /// What the guest logged and wrote to stderr, within its limits.
    pub log: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub wall_us: u64,
    /// Of it, the guest's own code.
    pub cpu_us: u64,
    pub memory_bytes_max: u64,
    /// Calls that reached a database or a service, and what went there and came back.
    pub host_calls: u64,
    pub host_bytes: u64,
}
