//! Logs when a problem begins and ends, and raises an alert for each, as soon as the store accepts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::alert::{Alert, Severity};
use serde_json::json;
use store::StoreError;
use tokio::sync::Mutex;

use super::{Condition, Effect, Problem, problems};
use crate::state::AppState;

/// Interval of the health checks. A failed task counts as down for longer, so no failure is missed.
const PERIOD: Duration = Duration::from_secs(1);
/// Maximum number of alerts that wait for the store.
const WAITING_MAX: usize = 100;

pub struct Monitor {
    state: AppState,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Current problems, by condition and subject.
    open: BTreeMap<(Condition, String), String>,
    /// Alerts that are not raised yet.
    waiting: Vec<Alert>,
}

impl Monitor {
    pub fn new(state: AppState) -> Monitor {
        Monitor { state, seen: Mutex::default() }
    }

    pub async fn run(self: Arc<Self>) {
        let mut seen = self.seen.lock().await;
        loop {
            tokio::select! {
                _ = self.state.stopping.cancelled() => return,
                _ = tokio::time::sleep(PERIOD) => {}
            }
            let problems = problems(&self.state).await;
            if self.state.stopping.is_cancelled() {
                return;
            }
            self.note(&mut seen, problems);
            if let Err(error) = self.raise(&mut seen.waiting).await {
                tracing::debug!(%error, "alerts of the host wait for the store");
            }
        }
    }

    fn note(&self, seen: &mut Seen, problems: Vec<Problem>) {
        let mut open = BTreeMap::new();
        for problem in problems {
            let key = (problem.condition, problem.subject.clone());
            if seen.open.remove(&key).is_none() {
                tracing::warn!(problem = problem.condition.name(), "{}", problem.text);
                seen.waiting.extend(self.alert(&problem));
                seen.waiting.truncate(WAITING_MAX);
            }
            open.insert(key, problem.text);
        }
        for (condition, subject) in seen.open.keys() {
            tracing::info!(problem = condition.name(), subject, "the problem is over");
        }
        seen.open = open;
    }

    fn alert(&self, problem: &Problem) -> Option<Alert> {
        let condition = problem.condition;
        let (host, now) = (self.state.engine.host_id(), self.state.clock.now());
        Some(Alert {
            kind: condition.alert()?.to_owned(),
            key: match problem.subject.as_str() {
                "" => host.to_string(),
                subject => format!("{host} {subject}"),
            },
            severity: match condition.effect() {
                Effect::NotReady => Severity::Error,
                Effect::Warning => Severity::Warning,
            },
            message: format!("host {host}, at {now:.0}: {}", problem.text),
            metadata: json!({ "host": host.to_string(), "problem": condition.name() }).to_string(),
        })
    }

    async fn raise(&self, waiting: &mut Vec<Alert>) -> Result<(), StoreError> {
        while let Some(alert) = waiting.first() {
            self.state.store.alerts().raise_for_host(alert, self.state.clock.now()).await?;
            waiting.remove(0);
        }
        Ok(())
    }
}
