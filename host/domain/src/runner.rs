//! The interface between the engine and the sandbox that runs plugins. It cannot fail: every error is a
//! failure of the attempt. Dropping the future cancels the call.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::id::{Digest, RunId};
use crate::item::Claimed;
use crate::job::JobSpec;
use crate::outcome::Outcome;
use crate::reuse::ClaimShare;
use crate::scope::Scope;

#[async_trait]
pub trait Runner: Send + Sync {
    /// Whether attempts of `job` can start now.
    fn readiness(&self, job: &JobSpec) -> Readiness;

    async fn discover(&self, call: Call<PageRequest>) -> CallReport<Page>;

    async fn process(&self, call: Call<Claimed>) -> CallReport<Outcome>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready(Digest),
    /// The reason, for people.
    Blocked(String),
}

/// One call to a plugin.
pub struct Call<T> {
    pub job: Arc<JobSpec>,
    pub input: T,
    pub scope: Arc<dyn Scope>,
    /// Set if the call may use the instance of an earlier item of its claim.
    pub share: Option<ClaimShare>,
}

#[derive(Debug, Clone)]
pub struct PageRequest {
    pub run_id: RunId,
    pub trigger: String,
    /// The schedule's instant that started the run.
    pub scheduled_at: Option<Timestamp>,
    /// The parameters of the run: a JSON document.
    pub params: Option<String>,
    pub cursor: Option<String>,
    pub limit: u32,
    pub now: Timestamp,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<FoundItem>,
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundItem {
    pub key: String,
    pub payload: String,
}

#[derive(Debug, Clone)]
pub struct CallReport<T> {
    pub result: Result<T, Failure>,
    /// The version that was called. `None` if there was no version to call.
    pub digest: Option<Digest>,
    pub usage: Usage,
    /// The guest's log and stderr, within the limits.
    pub log: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub wall_us: u64,
    /// CPU time of the guest's own code, part of `wall_us`.
    pub cpu_us: u64,
    pub memory_bytes_max: u64,
    /// Calls that reached a database or a service, and the bytes sent and received.
    pub host_calls: u64,
    pub host_bytes: u64,
}
