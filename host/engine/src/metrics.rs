//! The metrics, with the names of docs/runbook.md. The server shows them at `/metrics`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::effect::{Change, Effect, Metric};
use domain::id::JobName;
use domain::outcome::Verdict;
use domain::runner::Usage;
use jiff::Timestamp;
use metrics::{Label, counter, gauge, histogram};
use store::attempts::commit::AttemptEnd;

use crate::families::Families;
use crate::log_throttle::LogThrottle;

/// Series (name and labels) that one job's metrics may have: each costs memory here and
/// in the monitoring system.
const SERIES_PER_JOB_MAX: usize = 1_000;

/// The series that jobs have reported so far.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<JobName, HashSet<Vec<String>>>>,
    families: Families,
}

impl Metrics {
    pub fn attempt_ended(&self, end: &AttemptEnd) {
        let job = &end.item.job;
        call_ended(job, &end.usage);
        let verdict = end.ending.verdict;
        counter!("tidemill_attempts_total", "job" => job.to_string(), "verdict" => verdict.as_str())
            .increment(1);
        if matches!(verdict, Verdict::Failed | Verdict::Permanent | Verdict::Exhausted) {
            failed(job);
        }
        if let Some(batch) = &end.item.in_batch {
            let operation = batch.operation.clone();
            let name = match verdict {
                Verdict::Resolved => "batch_items_resolved_total",
                Verdict::Permanent | Verdict::Exhausted => "batch_items_manual_total",
                _ => "batch_items_retried_total",
            };
            counter!(name, "job" => job.to_string(), "operation" => operation).increment(1);
        }
        for effect in &end.effects.requested {
            if let Effect::Metric(metric) = effect {
                self.show(job, metric);
            }
        }
    }

    /// Counts a run when its discovery ends, and also a failure if the discovery is not complete.
    pub fn run_ended(&self, job: &JobName, complete: bool) {
        counter!("job_runs_total", "job" => job.to_string()).increment(1);
        if !complete {
            failed(job);
        }
    }

    /// Records a metric of a plugin, unless it conflicts with one that is shown already.
    pub(crate) fn show(&self, job: &JobName, metric: &Metric) {
        let name = metric.shown_name();
        if let Err(why) = self.families.admit(&name, metric) {
            dropped(job, "name", &why);
            return;
        }
        if !self.admits(job, metric) {
            dropped(job, "series", "the job has too many combinations of metric names and labels");
            return;
        }
        let own = metric.labels.iter().map(|(name, value)| Label::new(name.clone(), value.clone()));
        let labels: Vec<Label> = own.chain([Label::new("job", job.to_string())]).collect();
        match metric.change {
            Change::Add(by) => counter!(name, labels).increment(by),
            Change::Set(value) => gauge!(name, labels).set(value),
        }
    }

    /// Limits the series of a job, so that a job with unbounded labels loses its own metrics only.
    fn admits(&self, job: &JobName, metric: &Metric) -> bool {
        let mut labels: Vec<String> =
            metric.labels.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
        labels.push(metric.shown_name());
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let known = series.entry(job.clone()).or_default();
        known.contains(&labels) || (known.len() < SERIES_PER_JOB_MAX && known.insert(labels))
    }
}

static DROPPED: LogThrottle = LogThrottle::new();

/// Counts and logs a plugin's metric that is not shown.
fn dropped(job: &JobName, reason: &'static str, why: &str) {
    counter!("tidemill_metrics_dropped_total", "job" => job.to_string(), "reason" => reason).increment(1);
    if let Some(unsaid) = DROPPED.may() {
        tracing::warn!(%job, reason, why, unsaid, "a metric of a plugin is not shown");
    }
}

/// Records the duration and the usage of one call of a plugin.
pub fn call_ended(job: &JobName, usage: &Usage) {
    let seconds = Duration::from_micros(usage.wall_us).as_secs_f64();
    histogram!("job_duration_seconds", "job" => job.to_string()).record(seconds);
    let cpu = Duration::from_micros(usage.cpu_us).as_secs_f64();
    histogram!("tidemill_guest_cpu_seconds", "job" => job.to_string()).record(cpu);
    counter!("tidemill_host_calls_total", "job" => job.to_string()).increment(usage.host_calls);
    counter!("tidemill_host_bytes_total", "job" => job.to_string()).increment(usage.host_bytes);
}

/// Records that a loop of the engine completed an iteration. A loop that hangs or fails shows an old time.
pub fn round_done(task: &'static str, at: Timestamp) {
    gauge!("tidemill_task_last_success_timestamp_seconds", "task" => task).set(at.as_second() as f64);
}

/// Counts an outcome that was refused because its item has another holder.
pub fn refused_as_stale(job: &JobName) {
    counter!("tidemill_stale_refused_total", "job" => job.to_string()).increment(1);
}

/// Counts an item that was found after its host went away.
pub fn stuck(job: &JobName) {
    counter!("job_stuck_detected_total", "job" => job.to_string()).increment(1);
}

fn failed(job: &JobName) {
    counter!("job_failures_total", "job" => job.to_string()).increment(1);
}
