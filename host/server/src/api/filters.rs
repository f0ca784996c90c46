//! Filters of lists: jobs and states, by their stored and their displayed names.

use std::sync::Arc;

use domain::item::State;
use domain::job::JobSpec;
use store::alerts::NOTICE_TOPIC;
use store::items::Shown;

use crate::config::did_you_mean;
use crate::http::ApiError;
use crate::state::AppState;

/// Names of the states of items. Names on one line are synonyms.
const STATES: [(&[&str], Shown); 8] = [
    (&["pending"], Shown::Pending),
    (&["retrying"], Shown::Retrying),
    (&["scheduled"], Shown::State(State::Scheduled)),
    (&["running"], Shown::State(State::Running)),
    (&["awaiting"], Shown::State(State::Awaiting)),
    (&["resolved"], Shown::State(State::Resolved)),
    (&["manual_required", "needs_a_person", "for_a_person"], Shown::State(State::ManualRequired)),
    (&["abandoned"], Shown::State(State::Abandoned)),
];

/// Parses the state in a filter, by its stored or its displayed name.
pub fn state(text: &str) -> Result<Shown, ApiError> {
    let word = text.trim().to_lowercase().replace(['-', ' '], "_");
    let found = STATES.iter().find(|(words, _)| words.contains(&word.as_str()));
    found.map(|(_, shown)| *shown).ok_or_else(|| {
        let all: Vec<&str> = STATES.iter().flat_map(|(words, _)| words.iter().copied()).collect();
        let near = did_you_mean(&word, &all);
        let remedy = "use pending, retrying, scheduled (both of them), running, awaiting, resolved, \
            manual_required (shown as \"needs a person\") or abandoned";
        ApiError::bad_query(format!("state: {text:?} is no state of an item{near}; {remedy}"))
    })
}

/// Finds a job of this host's configuration.
pub fn known(state: &AppState, name: &str) -> Result<Arc<JobSpec>, ApiError> {
    let jobs = state.engine.jobs();
    let job = jobs.iter().find(|known| known.name.as_str() == name).cloned();
    job.ok_or_else(|| no_job(name, &jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>()))
}

/// Refuses a job that no host was ever configured with: an empty list would suggest that the job exists.
pub async fn check_job(state: &AppState, name: &str) -> Result<(), ApiError> {
    if state.engine.jobs().iter().any(|job| job.name.as_str() == name) {
        return Ok(());
    }
    let stored = state.store.jobs().names().await?;
    if stored.iter().any(|job| job == name) {
        return Ok(());
    }
    Err(no_job(name, &stored.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Refuses a topic that no job of this host may publish to: an empty list would suggest
/// that the topic exists.
pub fn check_topic(state: &AppState, topic: &str) -> Result<(), ApiError> {
    let jobs = state.engine.jobs();
    let granted = jobs.iter().flat_map(|job| job.grants.topics.iter().map(String::as_str));
    let known: Vec<&str> = granted.chain([NOTICE_TOPIC]).collect();
    if known.contains(&topic) {
        return Ok(());
    }
    let near = did_you_mean(topic, &known);
    Err(ApiError::not_found(format!("there is no topic {topic:?}: no job may publish to it{near}")))
}

pub fn no_job(name: &str, known: &[&str]) -> ApiError {
    ApiError::not_found(format!("there is no job {name:?}{}", did_you_mean(name, known)))
}
