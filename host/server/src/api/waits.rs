//! Why requested work does not start yet: a job may be paused, or have no version that can run.

use crate::http::ApiError;
use crate::state::AppState;
use domain::job::JobSpec;
use domain::runner::Readiness;
use store::jobs::pauses::{Pause, Pauses};

/// Why no work of this job starts now, and what to do; `None` if it starts.
pub async fn of(state: &AppState, job: &str) -> Result<Option<String>, ApiError> {
    let pauses = state.store.jobs().pauses().await?;
    if let Some(why) = paused(&pauses, job) {
        return Ok(Some(why));
    }
    let jobs = state.engine.jobs();
    Ok(match jobs.iter().find(|known| known.name.as_str() == job) {
        Some(known) => blocked(state, known),
        None => Some(format!("job {job:?} is not in the configuration of this host")),
    })
}

fn blocked(state: &AppState, job: &JobSpec) -> Option<String> {
    match state.engine.readiness(job) {
        Readiness::Ready(_) => None,
        Readiness::Blocked(why) => Some(format!("job {} cannot run on this host: {why}", job.name)),
    }
}

fn paused(pauses: &Pauses, job: &str) -> Option<String> {
    let own = pauses.own(job).map(|pause| {
        format!("job {job} is paused {}: resume it with `tidemill jobs resume {job}`", since(pause))
    });
    let all = pauses.of_all().map(all_paused);
    match (own, all) {
        (Some(own), Some(all)) => Some(format!("{own}; {all}")),
        (own, all) => own.or(all),
    }
}

pub fn all_paused(pause: &Pause) -> String {
    format!("all jobs are paused {}: resume them with `tidemill jobs resume --all`", since(pause))
}

fn since(pause: &Pause) -> String {
    format!("by {} since {:.0}", pause.by, pause.since)
}
