//! `tidemill recover` and `tidemill doctor`.

use domain::text::escape;
use serde_json::json;

use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print};
use crate::api::recover::{Answered, Doctor, Recovered};

pub fn recover(remote: &Remote) -> Result<(), Failure> {
    let recovered: Recovered = remote.post(&["recover"], &json!({}))?;
    let header = ["JOB", "KEY", "NOW", "CRASHES IN A ROW"];
    print(remote.output, &recovered, &header, |recovered| {
        let row = |item: &crate::api::recover::RecoveredItem| {
            vec![item.job.clone(), item.key.clone(), item.state.clone(), item.crashes.to_string()]
        };
        recovered.items.iter().map(row).collect()
    })
}

pub fn doctor(remote: &Remote) -> Result<(), Failure> {
    let doctor: Doctor = remote.get(&["doctor"], &[])?;
    if let Output::Table = remote.output {
        for problem in &doctor.health.problems {
            line(&format!("problem: {}: {}\n", problem.name, escape(&problem.text)))?;
        }
    }
    let header = ["JOB", "LOCK", "HEARTBEAT", "BOUNDED RETRIES", "METRICS", "AUDITED RECOVERY"];
    print(remote.output, &doctor, &header, |doctor| {
        let row = |check: &crate::api::recover::SelfCheck| {
            vec![
                check.job.clone(),
                word(&check.lock),
                word(&check.heartbeat),
                word(&check.bounded_retries),
                word(&check.metrics),
                word(&check.audited_recovery),
            ]
        };
        doctor.jobs.iter().map(row).collect()
    })?;
    if let Output::Table = remote.output {
        line(&format!("\nMemory for attempts on this host: {}", doctor.memory))?;
        if !doctor.clock.yes {
            line(&format!("clock: no: {}", escape(&doctor.clock.how)))?;
        }
    }
    let ready = doctor.health.problems.iter().all(|problem| problem.ready);
    if ready { Ok(()) } else { Err(Failure::Told) }
}

/// A "yes" is shown with its reason only in JSON, except where the reason is about the limit of attempts.
fn word(answer: &Answered) -> String {
    match (answer.yes, answer.how.as_str()) {
        (true, how) if how.contains("attempts") || how.contains("unbounded") => format!("yes: {how}"),
        (true, _) => "yes".to_owned(),
        (false, how) => format!("no: {how}"),
    }
}
