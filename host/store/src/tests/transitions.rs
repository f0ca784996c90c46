//! The statements on items agree with the state machine `domain::item::next`: each event of an item in each
//! state leads to the same state in the database.

use std::sync::Arc;

use domain::failure::Failure;
use domain::id::JobName;
use domain::item::{Claimed, Event, State, next};
use domain::job::JobSpec;
use domain::outcome::{Outcome, decide};
use domain::retry::{RetryPolicy, WhenExhausted};
use test_support::on_both;

use super::support::{T, at, awaiting, end, failed, host, job, lease, page, permanent, resolved};
use crate::attempts::commit::AttemptEnd;
use crate::items::DecisionRequest;

on_both! {
    every_event_in_every_state_agrees_with_the_state_machine,
}

/// A job that resolves items that are absent, and restarts exhausted ones.
fn job_of(name: JobName) -> JobSpec {
    let retry = RetryPolicy { when_exhausted: WhenExhausted::NextRun, ..job().retry };
    JobSpec { name, retry, resolve_when_absent: true, ..job() }
}

async fn every_event_in_every_state_agrees_with_the_state_machine(t: T) {
    let mut differences = Vec::new();
    for (row, state) in State::ALL.into_iter().enumerate() {
        for (column, event) in Event::ALL.into_iter().enumerate() {
            // Attempts are exhausted only in this state.
            if event == Event::FoundAnew && state != State::ManualRequired {
                continue;
            }
            let job = job_of(format!("j{row}-{column}").parse().unwrap());
            // Of the former case, which recovery would find first.
            t.tamper("DELETE FROM claim").await.unwrap();
            let claimed = put_into(&t, &job, state, event).await;
            apply(&t, &job, &claimed, event).await;
            let item = t.store.items().get(job.name.as_str(), "a").await.unwrap().unwrap();
            let expected = next(state, event).unwrap_or(state);
            if item.state != expected {
                differences.push(format!("{state} and {event:?}: {} instead of {expected}", item.state));
            }
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

/// Puts the item `a` into `state`. Returns its last claim.
async fn put_into(t: &T, job: &JobSpec, state: State, event: Event) -> Claimed {
    t.discover(job, &["a"], 0).await;
    let claimed = t.store.items().claim(job, lease(1, 0), 1).await.unwrap().remove(0);
    if state != State::Running {
        // The claim stays, so that only the epoch can refuse its end.
        let (name, exhausted) = (&job.name, i64::from(event == Event::FoundAnew));
        let set = format!(
            "UPDATE item SET state = '{state}', exhausted = {exhausted}, run_id = NULL, epoch = epoch + 1 WHERE job = '{name}'"
        );
        t.tamper(&set).await.unwrap();
        let place = match state {
            State::Scheduled | State::Awaiting => {
                "due (job, priority, due_at_ms, item_id) SELECT job, priority, due_at_ms, id"
            }
            _ => "parked (job, state, item_id, since_ms) SELECT job, state, id, 0",
        };
        t.tamper(&format!("INSERT INTO {place} FROM item WHERE job = '{name}' AND state <> 'resolved'"))
            .await
            .unwrap();
    }
    claimed
}

async fn apply(t: &T, job: &JobSpec, claimed: &Claimed, event: Event) {
    let ends = async |result: Result<Outcome, Failure>| {
        let ending = decide(&result, claimed, &job.retry, at(1));
        let attempt = AttemptEnd { ending, ..end(claimed, &result, 1) };
        assert_eq!(attempt.ending.event, event);
        t.store.attempts().end(Arc::new(attempt)).await.unwrap();
    };
    match event {
        Event::Found | Event::FoundAnew => drop(t.discover(job, &["a"], 10).await),
        Event::Absent => {
            let run = t.run(job, 10).await;
            t.put(&run, job, &page(&[], None), 10).await;
        }
        Event::Claimed => drop(t.store.items().claim(job, lease(2, 1), 1).await.unwrap()),
        Event::Resolved => ends(resolved()).await,
        Event::Retry => ends(failed()).await,
        Event::Await => ends(awaiting()).await,
        Event::GiveUp => ends(permanent()).await,
        Event::Interrupted => ends(Err(Failure::Interrupted)).await,
        Event::Lost => drop(t.store.items().recover(Some(host(1)), |_| 5, at(1)).await.unwrap()),
        // Refused if the state machine refuses it.
        Event::Manual(decision) => {
            let decided = DecisionRequest::new(decision, None, "ada");
            drop(t.store.items().decide(job.name.as_str(), "a", decided, at(1)).await);
        }
    }
}
