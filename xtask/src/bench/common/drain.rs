//! Items that wait while their job is paused, and the time that hosts take to resolve them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::http::Client;
use super::served::{CONCURRENCY, job};

const POLL: Duration = Duration::from_millis(20);
const DISCOVERY_TIME_MAX: Duration = Duration::from_secs(3_600);
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3_600);
const EDIT_TIME_MAX: Duration = Duration::from_secs(30);

/// Finds the job's items by a discovery, and leaves the job paused with its items waiting. Returns their number.
///
/// A paused job starts no discovery, so a rate of one attempt an hour holds the items back until the pause.
pub fn fill(client: &mut Client, name: &str) -> Result<u64> {
    edit(client, name, &json!({ "set": { "rate": "1/1h", "concurrency": 1 } }), 1)?;
    client.post(&format!("/api/v1/jobs/{name}"), &json!({}))?;
    until(client, name, DISCOVERY_TIME_MAX, |run| run["discovered_at"].is_string())
        .context("the discovery of the items did not end")?;
    client.post(&format!("/api/v1/jobs/{name}/pause"), &json!({}))?;
    edit(client, name, &json!({ "clear": ["*"] }), CONCURRENCY)?;
    let waiting = count(&job(client, name)?, |state| state != "resolved");
    ensure!(waiting > 0, "no item of {name} waits");
    Ok(waiting)
}

/// Resumes the job and returns the time until all its items are resolved.
pub fn drain(client: &mut Client, name: &str) -> Result<Duration> {
    let began = Instant::now();
    client.post(&format!("/api/v1/jobs/{name}/resume"), &json!({}))?;
    until(client, name, DRAIN_TIME_MAX, |run| run["state"] == "finished").context("the items did not end")?;
    let took = began.elapsed();
    let left = count(&job(client, name)?, |state| state != "resolved");
    ensure!(left == 0, "{left} items of {name} are not resolved although their run is finished");
    Ok(took)
}

/// Both; returns items a second.
pub fn throughput(client: &mut Client, name: &str) -> Result<f64> {
    let items = fill(client, name)?;
    let took = drain(client, name)?;
    Ok(items as f64 / took.as_secs_f64())
}

/// Lets the job run at once, and returns when all its items are resolved.
pub fn run(client: &mut Client, name: &str) -> Result<()> {
    client.post(&format!("/api/v1/jobs/{name}"), &json!({}))?;
    until(client, name, DRAIN_TIME_MAX, |run| run["state"] == "finished").context("the items did not end")
}

/// Changes settings of the job and waits until they are in effect: the job's concurrency shows it.
fn edit(client: &mut Client, name: &str, change: &Value, concurrency: u32) -> Result<()> {
    client.post(&format!("/api/v1/jobs/{name}/edits"), change)?;
    let began = Instant::now();
    while job(client, name)?["concurrency"] != concurrency {
        ensure!(began.elapsed() < EDIT_TIME_MAX, "{change} is not in effect after {EDIT_TIME_MAX:?}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Waits for a state of the job's newest run.
fn until(client: &mut Client, name: &str, time_max: Duration, is: impl Fn(&Value) -> bool) -> Result<()> {
    let began = Instant::now();
    let path = format!("/api/v1/runs?job={name}&limit=1");
    loop {
        let answer = client.get_json(&path)?;
        let run = &answer["runs"][0];
        if is(run) {
            ensure!(run["error"].is_null(), "the run failed: {run}");
            return Ok(());
        }
        ensure!(began.elapsed() < time_max, "the run is {run} after {time_max:?}");
        std::thread::sleep(POLL);
    }
}

/// Items of the job in the wanted states.
fn count(job: &Value, wanted: impl Fn(&str) -> bool) -> u64 {
    let states = job["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = states.iter().filter(|count| count["state"].as_str().is_some_and(&wanted));
    own.filter_map(|count| count["items"].as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_by_state() {
        let job = json!({ "items": [{ "state": "resolved", "items": 4 }, { "state": "pending", "items": 2 },
            { "state": "running", "items": 1 }] });
        assert_eq!(count(&job, |state| state != "resolved"), 3);
        assert_eq!(count(&job, |state| state == "resolved"), 4);
        assert_eq!(count(&json!({}), |_| true), 0);
    }
}
