//! A plugin put to work: everything an admin decided about it, checked once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::alert::FailedAlert;
use crate::flow::Flow;
use crate::id::{JobName, PluginName};
use crate::limits::Limits;
use crate::lock::LockPattern;
use crate::origin::{Methods, Origin};
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;
use crate::secret::SecretHeader;
use crate::tick::TickPolicy;

#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    pub name: JobName,
    pub plugin: PluginName,
    pub schedule: Schedule,
    pub ticks: TickPolicy,
    /// What the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    pub grants: Grants,
    pub limits: Limits,
    pub retry: RetryPolicy,
    pub flow: Flow,
    /// Whether an item that a complete discovery does not find any more is resolved by it; one whose last attempt may have
    /// committed without its outcome is attempted once more first.
    pub resolve_when_absent: bool,
    pub failed_alert: FailedAlert,
    pub on_store_loss: OnStoreLoss,
}

/// What becomes of attempts that run while the store cannot be reached. Nothing new begins either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// They are stopped before their leases end: nobody works on an item that another host may hold.
    #[default]
    Stop,
    /// They go on, and what they come to is written when the store is back, unless another host has taken the item
    /// meanwhile. The job says that it does no harm if two of its attempts overlap.
    ContinueIdempotent,
}

impl JobSpec {
    /// When it begins next after `now`: its schedule's instant, and the job's own share of the jitter.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let offset = self.ticks.offset(self.name.as_str());
        let seen = now.checked_sub(offset).unwrap_or(now);
        self.schedule.next_after(seen)?.checked_add(offset).ok()
    }
}

/// What a job may touch. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub datasources: BTreeMap<String, Access>,
    pub topics: BTreeSet<String>,
    pub keyvalue: bool,
    pub alerts: bool,
    pub audit: bool,
    pub metrics: bool,
    /// Jobs that it may add items to.
    pub items: BTreeSet<JobName>,
    /// Locks that it may take.
    pub locks: BTreeSet<LockPattern>,
    /// Where it may send HTTP requests, and which.
    pub http: BTreeMap<Origin, Methods>,
    /// Whether the names among them may stand for addresses of the own network.
    pub http_private: bool,
    /// Secrets that the host adds to requests; the plugin never sees them.
    pub secrets: Vec<SecretHeader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

impl Grants {
    /// What a plugin can ask for by name, and whether it is granted.
    pub fn capability(&self, name: &str) -> bool {
        match name {
            "keyvalue" => self.keyvalue,
            "alerts" => self.alerts,
            "audit" => self.audit,
            "metrics" => self.metrics,
            _ => false,
        }
    }

    /// Why a statement on `datasource` may not run, if so.
    pub fn refuses_sql(&self, datasource: &str, writes: bool) -> Option<String> {
        match (self.datasources.get(datasource), writes) {
            (None, _) => Some(format!("datasource {datasource:?} is not granted")),
            (Some(Access::Read), true) => {
                Some(format!("datasource {datasource:?} is granted for reading only"))
            }
            _ => None,
        }
    }
}
