//! A damaged row of one job does not hide the rows of others from the loops that serve all jobs.

use std::collections::BTreeMap;

use domain::id::JobName;
use domain::job::JobSpec;
use jiff::Timestamp;
use test_support::on_both;

use super::support::{T, at, job, lease};
use crate::StoreError;
use crate::db::Decoded;

on_both! {
    item_with_a_damaged_due_time_holds_up_only_its_job,
    job_with_a_damaged_time_holds_up_only_itself,
    run_of_a_damaged_job_name_holds_up_only_itself,
    damaged_run_holds_up_only_its_job,
}

/// Outside of the range of timestamps.
const DAMAGED: i64 = i64::MIN;

fn other() -> JobSpec {
    JobSpec { name: "other".parse().unwrap(), ..job() }
}

/// The jobs that could be read. One row could not.
fn known(times: Decoded<BTreeMap<JobName, Timestamp>>) -> Vec<(String, Timestamp)> {
    assert!(matches!(times.error, Some(StoreError::Corrupt(_))), "{:?}", times.error);
    times.rows.into_iter().map(|(job, at)| (job.to_string(), at)).collect()
}

async fn item_with_a_damaged_due_time_holds_up_only_its_job(t: T) {
    t.discover(&job(), &["a", "b"], 0).await;
    t.store.jobs().put(&other(), at(0)).await.unwrap();
    t.discover(&other(), &["c"], 3).await;
    let due = t.store.items().next_due_by_job().await.unwrap();
    assert_eq!((due.rows.len(), due.error.is_none()), (2, true));
    t.tamper(&format!("UPDATE due SET due_at_ms = {DAMAGED} WHERE job = 'wallet'")).await.unwrap();
    assert_eq!(known(t.store.items().next_due_by_job().await.unwrap()), [("other".to_owned(), at(3))]);
}

async fn job_with_a_damaged_time_holds_up_only_itself(t: T) {
    let jobs = || t.store.jobs();
    jobs().put(&job(), at(0)).await.unwrap();
    jobs().put(&other(), at(3)).await.unwrap();
    t.tamper(&format!(
        "UPDATE job SET ticked_at_ms = {DAMAGED}, created_at_ms = {DAMAGED} WHERE name = 'wallet'"
    ))
    .await
    .unwrap();
    let good = [("other".to_owned(), at(3))];
    assert_eq!(known(jobs().ticked_at_by_job().await.unwrap()), good);
    assert_eq!(known(jobs().heartbeats().await.unwrap()), good);
    assert_eq!(jobs().heartbeat(&other().name).await.unwrap(), at(3));
    assert!(matches!(jobs().heartbeat(&job().name).await, Err(StoreError::Corrupt(_))));
}

async fn run_of_a_damaged_job_name_holds_up_only_itself(t: T) {
    let runs = || t.store.runs();
    for job in [job(), other()] {
        t.store.jobs().put(&job, at(0)).await.unwrap();
        t.store.jobs().trigger(&job.name, None, "ada", at(1)).await.unwrap();
    }
    t.tamper("UPDATE run SET job = 'No Such Job' WHERE job = 'wallet'").await.unwrap();
    let found = runs().jobs_to_discover(at(1)).await.unwrap();
    assert!(matches!(found.error, Some(StoreError::Corrupt(_))), "{:?}", found.error);
    assert_eq!(found.rows.into_iter().collect::<Vec<_>>(), [other().name]);
}

async fn damaged_run_holds_up_only_its_job(t: T) {
    let runs = || t.store.runs();
    for job in [job(), other()] {
        t.store.jobs().put(&job, at(0)).await.unwrap();
        t.store.jobs().trigger(&job.name, None, "ada", at(1)).await.unwrap();
    }
    t.tamper(&format!("UPDATE run SET scheduled_at_ms = {DAMAGED} WHERE job = 'wallet'")).await.unwrap();
    let found = runs().jobs_to_discover(at(1)).await.unwrap();
    assert_eq!((found.rows.len(), found.error.is_none()), (2, true));
    assert!(matches!(runs().claim(&job().name, lease(1, 2)).await, Err(StoreError::Corrupt(_))));
    assert!(runs().claim(&other().name, lease(1, 2)).await.unwrap().is_some());
}
