//! The report as one JSON line, and the reasons why the run failed.

use std::collections::BTreeMap;

use serde_json::json;

use crate::checker::Verdict;
use crate::fault::Fault;
use crate::support::database::Kind;

pub struct Report {
    pub kind: Kind,
    pub tier: String,
    pub acknowledged: usize,
    pub fired: BTreeMap<Fault, u64>,
    pub verdict: Verdict,
    pub stale_seen: u64,
    /// The time until each item of a killed host was put back, sorted.
    pub killed_ms: Vec<i64>,
    /// The same for hosts that were stopped or cut off.
    pub stopped_ms: Vec<i64>,
}

impl Report {
    pub fn print(&self) {
        let faults: BTreeMap<&str, u64> =
            Fault::of(self.kind).iter().map(|fault| (fault.name(), self.fired(*fault))).collect();
        let Verdict { lost, duplicate, stale_accepted, .. } = &self.verdict;
        // Written manually, so that the fields keep their order.
        println!(
            "{{\"db\":\"{}\",\"tier\":\"{}\",\"acknowledged\":{},\"faults\":{},\"lost\":{},\"duplicate\":{},\
             \"stale_seen\":{},\"stale_accepted\":{},\"killed_ms_p50\":{},\"killed_ms_p99\":{},\
             \"stopped_ms_p50\":{},\"stopped_ms_p99\":{}}}",
            if self.kind == Kind::Sqlite { "sqlite" } else { "postgres" },
            self.tier,
            self.acknowledged,
            json!(faults),
            lost.len(),
            duplicate.len(),
            self.stale_seen,
            stale_accepted.len(),
            json!(percentile(&self.killed_ms, 50)),
            json!(percentile(&self.killed_ms, 99)),
            json!(percentile(&self.stopped_ms, 50)),
            json!(percentile(&self.stopped_ms, 99)),
        );
    }

    /// The reasons why this run proves nothing, or proves a fault.
    pub fn failures(&self) -> Vec<String> {
        let Verdict { lost, duplicate, stale_accepted, unsound } = &self.verdict;
        let mut failures = unsound.clone();
        for (what, keys) in [("lost", lost), ("duplicate", duplicate), ("stale accepted", stale_accepted)] {
            let shown: Vec<_> = keys.iter().take(20).collect();
            failures.extend((!keys.is_empty()).then(|| format!("{} {what}: {shown:?}", keys.len())));
        }
        let silent = Fault::of(self.kind).iter().filter(|fault| self.fired(**fault) == 0);
        failures.extend(silent.map(|fault| format!("{} never fired: the run proves nothing", fault.name())));
        if self.acknowledged == 0 {
            failures.push("nothing was acknowledged: the run proves nothing".to_owned());
        }
        if self.kind == Kind::Postgres && self.stale_seen == 0 {
            failures.push("no stale write was seen and refused: the run proves nothing".to_owned());
        }
        failures
    }

    fn fired(&self, fault: Fault) -> u64 {
        self.fired.get(&fault).copied().unwrap_or_default()
    }
}

/// None if no item had to be recovered.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last * percent).div_ceil(100)])
}
