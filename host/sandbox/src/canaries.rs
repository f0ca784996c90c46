//! Results of attempts while two versions of a plugin run side by side.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::id::{Digest, PluginName};
use domain::outcome::{Failure, Outcome};
use domain::release::Tried;
use domain::runner::Report;

use crate::component::Version;

#[derive(Default)]
pub struct Canaries(Mutex<BTreeMap<(PluginName, Digest), Tried>>);

impl Canaries {
    pub fn note(&self, version: &Version, report: &Report<Outcome>) {
        // Not the version's fault, and often the host's own.
        let left_out = |failure: &Failure| {
            matches!(
                failure,
                Failure::Throttled { .. }
                    | Failure::Postponed { .. }
                    | Failure::Host(_)
                    | Failure::Interrupted
            )
        };
        if report.result.as_ref().is_err_and(left_out) {
            return;
        }
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = trials.entry((version.plugin.clone(), version.digest)).or_default();
        tried.add(report.result.is_err(), report.usage.cpu_us);
    }

    pub fn take(&self) -> BTreeMap<(PluginName, Digest), Tried> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
