//! Results of attempts while two versions of a plugin run side by side.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::failure::Failure;
use domain::id::{Digest, PluginName};
use domain::outcome::Outcome;
use domain::release::TrialResults;
use domain::runner::CallReport;

use crate::versions::version::Version;

#[derive(Default)]
pub struct Canaries(Mutex<BTreeMap<(PluginName, Digest), TrialResults>>);

impl Canaries {
    pub fn note(&self, version: &Version, report: &CallReport<Outcome>) {
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

    /// Returns results that [`Canaries::take`] gave and that could not be stored.
    pub fn give_back(&self, results: impl IntoIterator<Item = ((PluginName, Digest), TrialResults)>) {
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (version, tried) in results {
            trials.entry(version).or_default().merge(&tried);
        }
    }

    pub fn take(&self) -> BTreeMap<(PluginName, Digest), TrialResults> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_are_given_back_are_added_to_later_ones() {
        let (canaries, version) = (Canaries::default(), ("plugin".parse().unwrap(), Digest([1; 32])));
        let tried = |attempts, failed| TrialResults { attempts, failed, cpu_us: 5 * attempts };
        canaries.give_back([(version.clone(), tried(2, 1))]);
        let taken = canaries.take();
        assert!(canaries.take().is_empty());
        canaries.give_back([(version.clone(), tried(3, 0))]);
        canaries.give_back(taken);
        assert_eq!(canaries.take(), BTreeMap::from([(version, tried(5, 1))]));
    }
}
