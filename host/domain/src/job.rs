//! A plugin put to work: everything an admin decided about it, checked once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::id::{JobName, PluginName};
use crate::limits::Limits;
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;

#[derive(Debug, Clone)]
pub struct JobSpec {
    pub name: JobName,
    pub plugin: PluginName,
    pub schedule: Schedule,
    /// What the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    pub grants: Grants,
    pub limits: Limits,
    pub retry: RetryPolicy,
    /// Attempts of this job that one host runs at the same time.
    pub concurrency: u32,
    /// Items that one run may queue; the others are found again by the next run.
    pub items_per_run_max: Option<u32>,
    /// Attempts that all hosts together may start in a window of time.
    pub rate: Option<Rate>,
    /// Whether an item that a complete discovery does not find any more is resolved by it.
    pub resolve_when_absent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub attempts_max: u32,
    pub window: SignedDuration,
}

/// What a job may touch. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub datasources: BTreeMap<String, Access>,
    pub topics: BTreeSet<String>,
    pub keyvalue: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

impl Grants {
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
