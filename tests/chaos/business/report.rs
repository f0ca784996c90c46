//! The report as one JSON line, and the reasons why the run failed.

use serde_json::json;

use super::checker::{Check, Figures};
use super::faults::Fired;
use crate::checker::shown;

pub struct Report {
    pub hours: f64,
    pub fired: Fired,
    pub checks: Vec<Check>,
    pub figures: Figures,
}

impl Report {
    pub fn print(&self) {
        for Check { name, of, wrong } in &self.checks {
            eprintln!("{:>6} wrong of {of:>6}: {name}", wrong.len());
        }
        // Written manually, so that the fields keep their order.
        let figures: Vec<String> =
            self.figures.iter().map(|(name, figure)| format!("\"{name}\":{figure}")).collect();
        println!(
            "{{\"hours\":{},{},\"faults\":{},\"wrong\":{}}}",
            self.hours,
            figures.join(","),
            json!(self.fired),
            self.checks.iter().map(|check| check.wrong.len()).sum::<usize>(),
        );
    }

    /// The reasons why this run proves nothing, or proves a fault.
    pub fn failures(&self) -> Vec<String> {
        let wrong = self.checks.iter().filter(|check| !check.wrong.is_empty());
        let mut failures: Vec<String> = wrong
            .map(|check| format!("not so: {}: {}: {:?}", check.name, check.wrong.len(), shown(&check.wrong)))
            .collect();
        let silent = self.fired.iter().filter(|(_, times)| **times == 0);
        failures.extend(silent.map(|(fault, _)| format!("{fault} never fired: the run proves nothing")));
        let empty = self.figures.iter().filter(|(_, figure)| *figure == 0);
        failures.extend(empty.map(|(name, _)| format!("{name} is 0: the run proves nothing")));
        failures
    }
}
