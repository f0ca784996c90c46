//! The problems of this host. `/readyz`, the page, `doctor`, alerts and metrics all use [`problems`], so that
//! they report the same state.

pub mod monitor;

use std::time::Duration;

use store::tasks::TaskStatus;
use store::{Store, StoreError};

use crate::state::AppState;
use crate::telemetry;

/// A hanging database does not answer: after this time it counts as unavailable.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// A kind of problem. A new one needs its line in [`Condition::ALL`] and [`Condition::facts`],
/// and one in [`problems`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    Stopping,
    StoreUnavailable,
    StoreConnections,
    LeasesNotRenewed,
    HostResources,
    TaskDown,
    LogLinesDropped,
}

/// The effect of a condition on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The host cannot work: `/readyz` answers 503.
    NotReady,
    /// The host works, but a person should investigate.
    Warning,
}

impl Condition {
    pub const ALL: [Condition; 7] = [
        Condition::Stopping,
        Condition::StoreUnavailable,
        Condition::StoreConnections,
        Condition::LeasesNotRenewed,
        Condition::HostResources,
        Condition::TaskDown,
        Condition::LogLinesDropped,
    ];

    /// Its name in responses and metrics, its effect, and the kind of its alert if it raises one.
    fn facts(self) -> (&'static str, Effect, Option<&'static str>) {
        match self {
            Condition::Stopping => ("stopping", Effect::NotReady, None),
            Condition::StoreUnavailable => ("store-unavailable", Effect::NotReady, Some("STORE_UNAVAILABLE")),
            // Existing connections may still work.
            Condition::StoreConnections => ("store-connections", Effect::Warning, Some("STORE_CONNECTIONS")),
            Condition::LeasesNotRenewed => {
                ("leases-not-renewed", Effect::NotReady, Some("LEASES_NOT_RENEWED"))
            }
            // The engine raises the alert itself, for the job whose attempt failed.
            Condition::HostResources => ("host-resources", Effect::NotReady, None),
            Condition::TaskDown => ("task-down", Effect::NotReady, Some("TASK_DOWN")),
            Condition::LogLinesDropped => ("log-lines-dropped", Effect::Warning, Some("LOG_LINES_DROPPED")),
        }
    }

    pub fn name(self) -> &'static str {
        self.facts().0
    }

    pub fn effect(self) -> Effect {
        self.facts().1
    }

    pub fn alert(self) -> Option<&'static str> {
        self.facts().2
    }
}

/// A condition that holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub condition: Condition,
    /// The name of the task, if several can have the problem; otherwise empty.
    pub subject: String,
    /// A description for people.
    pub text: String,
}

impl Problem {
    pub fn new(condition: Condition, text: impl Into<String>) -> Problem {
        Problem { condition, subject: String::new(), text: text.into() }
    }

    pub fn about(condition: Condition, subject: &str, text: impl Into<String>) -> Problem {
        Problem { condition, subject: subject.to_owned(), text: text.into() }
    }
}

/// All current problems of this host. Takes [`ANSWER_TIME_MAX`] at most.
pub async fn problems(state: &AppState) -> Vec<Problem> {
    if state.stopping.is_cancelled() {
        return vec![Problem::new(Condition::Stopping, "the host is stopping")];
    }
    let mut problems = Vec::new();
    let mut add = |condition, text: Option<String>| {
        problems.extend(text.map(|text| Problem::new(condition, text)));
    };
    let store_trouble = store_trouble(&state.store).await;
    // Otherwise the problem is reported already.
    let connections = state.store.connection_trouble().filter(|_| store_trouble.is_none());
    add(Condition::StoreUnavailable, store_trouble);
    add(Condition::StoreConnections, connections);
    add(Condition::LeasesNotRenewed, state.engine.trouble());
    add(Condition::HostResources, state.engine.resource_trouble());
    add(Condition::LogLinesDropped, telemetry::trouble());
    problems.extend(state.store.tasks().status().into_iter().filter_map(task_down));
    problems
}

/// Whether `/readyz` answers 200.
pub fn is_ready(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.condition.effect() != Effect::NotReady)
}

/// All problems in one line; `None` if there are none.
pub fn summary(problems: &[Problem]) -> Option<String> {
    (!problems.is_empty()).then(|| texts(problems).join("; "))
}

/// The texts of all problems without repetitions: the store and the leases often fail for the same reason.
pub fn texts(problems: &[Problem]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for problem in problems {
        if !texts.contains(&problem.text) {
            texts.push(problem.text.clone());
        }
    }
    texts
}

async fn store_trouble(store: &Store) -> Option<String> {
    let late = |_| Err(StoreError::Unavailable(format!("no answer within {ANSWER_TIME_MAX:?}")));
    let asked = tokio::time::timeout(ANSWER_TIME_MAX, store.ping()).await;
    // A request that waits for a connection does not yet know the reason.
    let why = asked.is_err().then(|| store.connection_trouble()).flatten();
    let why = why.map(|why| StoreError::Unavailable(why).to_string());
    why.or_else(|| asked.unwrap_or_else(late).err().map(|error| error.to_string()))
}

fn task_down(task: TaskStatus) -> Option<Problem> {
    let why = task.down?;
    let text = format!("the task {:?} is down and is started again: {why}", task.name);
    Some(Problem::about(Condition::TaskDown, &task.name, text))
}
