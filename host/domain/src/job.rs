//! A job: a plugin with all the settings of its admin, validated once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::alert::FailedAlert;
use crate::flow::Flow;
use crate::id::{JobName, PluginName};
use crate::limits::Limits;
use crate::lock::LockPattern;
use crate::origin::{Methods, Origin};
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;
use crate::schedule::tick::TickPolicy;
use crate::scope_error::ScopeError;
use crate::secret::SecretHeader;

#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    pub name: JobName,
    pub plugin: PluginName,
    pub schedule: Schedule,
    pub ticks: TickPolicy,
    /// The values that the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    pub grants: Grants,
    pub limits: Limits,
    pub retry: RetryPolicy,
    pub flow: Flow,
    /// Whether a complete discovery resolves items that it no longer finds. If an item's last attempt may
    /// have committed without its outcome, the item is attempted once more first.
    pub resolve_when_absent: bool,
    pub failed_alert: FailedAlert,
    pub on_store_loss: OnStoreLoss,
    pub isolation: Isolation,
}

/// How to treat running attempts while the store is unreachable. No new attempt starts in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// They are stopped before their leases end, so that no item is processed while another host may hold it.
    #[default]
    Stop,
    /// They continue. Their outcomes are written when the store is reachable again, unless another host has
    /// claimed the item meanwhile. With this setting the job declares that overlapping attempts do no harm.
    ContinueIdempotent,
}

/// Which items of a job may use the same instance of its plugin, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each item gets an instance of its own.
    #[default]
    Item,
    /// Items that one statement claimed. Data that the plugin leaves in its memory reaches later items of the
    /// claim.
    Batch,
}

impl JobSpec {
    /// Whether attempts of this job continue without a lease.
    pub fn survives_store_loss(&self) -> bool {
        self.on_store_loss == OnStoreLoss::ContinueIdempotent
    }

    /// The next start after `now`: the schedule's instant plus the job's share of the jitter.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let offset = self.ticks.offset(self.name.as_str());
        let seen = now.checked_sub(offset).unwrap_or(now);
        self.schedule.next_after(seen)?.checked_add(offset).ok()
    }

    pub fn check_granted(&self, capability: Capability) -> Result<(), ScopeError> {
        match self.grants.allow(capability) {
            true => Ok(()),
            false => Err(self.not_granted(capability)),
        }
    }

    /// The error of a request without the grant that it needs.
    pub fn not_granted(&self, what: impl fmt::Display) -> ScopeError {
        ScopeError::Denied(format!("job {} is not granted {what}", self.name))
    }
}

/// The capabilities granted to a job. The default grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub datasources: BTreeMap<String, Access>,
    pub topics: BTreeSet<String>,
    pub capabilities: BTreeSet<Capability>,
    /// Jobs to which it may add items.
    pub items: BTreeSet<JobName>,
    /// Locks that it may take.
    pub locks: BTreeSet<LockPattern>,
    /// Origins and methods to which it may send HTTP requests.
    pub http: BTreeMap<Origin, Methods>,
    /// Whether granted host names may resolve to private addresses.
    pub http_private: bool,
    /// Secrets that the host adds to requests. The plugin never sees them.
    pub secrets: Vec<SecretHeader>,
}

/// A capability that is granted as a whole, not for single names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    KeyValue,
    Alerts,
    Audit,
    Metrics,
}

impl Capability {
    pub const ALL: [Capability; 4] =
        [Capability::KeyValue, Capability::Alerts, Capability::Audit, Capability::Metrics];

    /// The name in `describe` and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::KeyValue => "keyvalue",
            Capability::Alerts => "alerts",
            Capability::Audit => "audit",
            Capability::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

impl Grants {
    pub fn allow(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Why a statement on `datasource` is not allowed, if so.
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
