//! Due instants are decided once, by one of the hosts.

use domain::job::JobSpec;
use domain::schedule::Due;
use domain::schedule::tick::{CatchUp, Fate, Overlap};
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, job, lease, page, resolved};
use crate::attempts::commit::Committed;
use crate::jobs::TickView;

on_both! {
    schedule_starts_when_the_job_is_new,
    unknown_job_is_reported,
    instant_fires_once,
    many_hosts_fire_an_instant_once,
    open_run_makes_an_overlap,
    missed_instants_are_listed,
    place_in_the_schedule_only_moves_on,
    trigger_runs_beside_an_open_run,
    buffered_instant_runs_when_the_open_run_ends,
    newer_run_cancels_the_open_one,
    each_missed_instant_is_caught_up_with_in_order,
    paused_job_is_left_alone,
    parameters_reach_the_run,
}

fn overlapping(overlap: Overlap) -> JobSpec {
    let mut job = job();
    job.ticks.overlap = overlap;
    job
}

async fn fates(t: &T) -> String {
    let ticks = t.store.jobs().ticks("wallet", 10).await.unwrap();
    let line = |tick: &TickView| format!("{} {}", tick.at.duration_since(at(0)).as_secs(), tick.fate);
    ticks.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn due(seconds: i64) -> Due {
    Due { at: at(seconds), missed: Vec::new() }
}

async fn schedule_starts_when_the_job_is_new(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    assert_eq!(t.store.jobs().ticked_at(&job().name).await.unwrap(), at(0));
    t.store.jobs().put(&job(), at(500)).await.unwrap();
    assert_eq!(
        t.store.jobs().ticked_at(&job().name).await.unwrap(),
        at(0),
        "a restart does not skip what was missed"
    );
}

async fn unknown_job_is_reported(t: T) {
    let error = t.store.jobs().ticked_at(&job().name).await.unwrap_err();
    expect!["there is no job wallet"].assert_eq(&error.to_string());
}

async fn instant_fires_once(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    let ticked = t.store.jobs().tick(&job(), &due(60), at(61), at(61)).await.unwrap().unwrap();
    assert_eq!(ticked.fate, Fate::Ran);
    assert_eq!(t.store.jobs().tick(&job(), &due(60), at(62), at(62)).await.unwrap(), None);
    let runs = t.store.runs().list(Some("wallet"), 10).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [ticked.runs[0]]);
    assert_eq!((runs[0].started_by.as_str(), runs[0].created_at), ("schedule", at(61)));
    assert_eq!(t.store.jobs().ticked_at(&job().name).await.unwrap(), at(60));
}

async fn many_hosts_fire_an_instant_once(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    let hosts: Vec<_> = (0..16)
        .map(|_| {
            let t = t.clone();
            tokio::spawn(async move { t.store.jobs().tick(&job(), &due(60), at(60), at(60)).await.unwrap() })
        })
        .collect();
    let mut decided = 0;
    for host in hosts {
        decided += usize::from(host.await.unwrap().is_some());
    }
    assert_eq!(decided, 1);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM run").await, 1);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM tick").await, 1);
}

async fn open_run_makes_an_overlap(t: T) {
    let job = job();
    t.store.jobs().put(&job, at(0)).await.unwrap();
    t.store.jobs().tick(&job, &due(60), at(60), at(60)).await.unwrap().unwrap();
    let second = t.store.jobs().tick(&job, &due(120), at(120), at(120)).await.unwrap().unwrap();
    assert_eq!((second.fate, second.runs), (Fate::Overlap, vec![]));

    let run = t.store.runs().claim(&job.name, lease(1, 121)).await.unwrap().unwrap();
    t.put(&run, &job, &page(&[], None), 121).await;
    let third = t.store.jobs().tick(&job, &due(180), at(180), at(180)).await.unwrap().unwrap();
    assert_eq!(third.fate, Fate::Ran);
}

async fn missed_instants_are_listed(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.store.jobs().tick(&job(), &due(60), at(60), at(60)).await.unwrap();
    // A host with an outdated reading considers 60 missed; the tick keeps its fate.
    let due = Due { at: at(240), missed: vec![at(180), at(120), at(60)] };
    t.store.jobs().tick(&job(), &due, at(241), at(241)).await.unwrap().unwrap();
    let ticks = t.store.jobs().ticks("wallet", 10).await.unwrap();
    let lines: String = ticks
        .iter()
        .map(|tick| {
            format!("{} {} {}\n", tick.at.duration_since(at(0)).as_secs(), tick.fate, tick.run_id.is_some())
        })
        .collect();
    expect![[r#"
        240 overlap false
        180 coalesced false
        120 coalesced false
        60 ran true
    "#]]
    .assert_eq(&lines);
}

async fn place_in_the_schedule_only_moves_on(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.store.jobs().tick(&job(), &due(120), at(120), at(120)).await.unwrap();
    t.store.jobs().tick(&job(), &due(60), at(121), at(121)).await.unwrap();
    assert_eq!(t.store.jobs().ticked_at(&job().name).await.unwrap(), at(120));
}

async fn trigger_runs_beside_an_open_run(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.store.jobs().tick(&job(), &due(60), at(60), at(60)).await.unwrap();
    let run = t.store.jobs().trigger(&job().name, None, "ada", at(61)).await.unwrap();
    assert_eq!(t.run_view(run).await.started_by, "ada");
    assert_eq!(t.store.runs().list(None, 10).await.unwrap().len(), 2);
    let line = format!("ada triggered {run}: run started manually\n");
    assert_eq!(t.trail().await, line);
}

async fn buffered_instant_runs_when_the_open_run_ends(t: T) {
    let job = overlapping(Overlap::BufferOne);
    t.store.jobs().put(&job, at(0)).await.unwrap();
    t.store.jobs().tick(&job, &due(60), at(60), at(60)).await.unwrap();
    for seconds in [120, 180] {
        let ticked =
            t.store.jobs().tick(&job, &due(seconds), at(seconds), at(seconds)).await.unwrap().unwrap();
        assert_eq!((ticked.fate, ticked.runs), (Fate::Buffered, vec![]));
    }
    assert_eq!(fates(&t).await, "180 buffered, 120 overlap, 60 ran");
    assert_eq!(t.store.jobs().start_buffered(&job.name, at(181)).await.unwrap(), (None, true));
    let run = t.store.runs().claim(&job.name, lease(1, 182)).await.unwrap().unwrap();
    t.put(&run, &job, &page(&[], None), 182).await;
    let (started, waits) = t.store.jobs().start_buffered(&job.name, at(183)).await.unwrap();
    assert!(started.is_some() && !waits);
    assert_eq!(t.store.jobs().start_buffered(&job.name, at(184)).await.unwrap(), (None, false));
    assert_eq!(fates(&t).await, "180 ran, 120 overlap, 60 ran");
    let run = t.store.runs().claim(&job.name, lease(1, 185)).await.unwrap().unwrap();
    assert_eq!((run.scheduled_at, run.trigger.as_str()), (Some(at(180)), "schedule"));
}

/// The discovery ends even if a host holds it. The new run finds its queued items again.
async fn newer_run_cancels_the_open_one(t: T) {
    let job = overlapping(Overlap::CancelOther);
    t.store.jobs().put(&job, at(0)).await.unwrap();
    let first = t.store.jobs().tick(&job, &due(60), at(60), at(60)).await.unwrap().unwrap().runs[0];
    let held = t.store.runs().claim(&job.name, lease(1, 61)).await.unwrap().unwrap();
    t.put(&held, &job, &page(&["a"], Some("2")), 61).await;
    let second = t.store.jobs().tick(&job, &due(120), at(120), at(120)).await.unwrap().unwrap();
    assert_eq!(second.fate, Fate::Ran);
    let cancelled = t.run_view(first).await;
    assert_eq!((cancelled.state.as_str(), cancelled.error.unwrap().code.as_str()), ("failed", "cancelled"));
    let late = t.store.runs().put_page(&held, &job, &page(&["b"], None), None, at(121)).await.unwrap();
    assert_eq!(late.0, Committed::Stale);
    let run = t.store.runs().claim(&job.name, lease(1, 122)).await.unwrap().unwrap();
    assert_eq!(run.id, second.runs[0]);
    let sum = t.put(&run, &job, &page(&["a"], None), 122).await;
    assert_eq!(sum.queued, 1, "it counts for the new run");
    let item = t.claim_one(123).await;
    t.end(&item, resolved(), 124).await;
    assert_eq!(t.run_view(run.id).await.state, "finished");
}

async fn each_missed_instant_is_caught_up_with_in_order(t: T) {
    let mut job = job();
    job.ticks.catch_up = CatchUp::All(3);
    t.store.jobs().put(&job, at(0)).await.unwrap();
    let due = Due { at: at(300), missed: vec![at(240), at(180), at(120), at(60)] };
    let ticked = t.store.jobs().tick(&job, &due, at(301), at(301)).await.unwrap().unwrap();
    assert_eq!((ticked.fate, ticked.runs.len()), (Fate::Ran, 3));
    assert_eq!(fates(&t).await, "300 ran, 240 ran, 180 ran, 120 missed, 60 missed");
    for seconds in [180, 240, 300] {
        let run = t.store.runs().claim(&job.name, lease(1, 302)).await.unwrap().unwrap();
        assert_eq!(run.scheduled_at, Some(at(seconds)));
        t.put(&run, &job, &page(&[], None), 302).await;
    }
}

async fn paused_job_is_left_alone(t: T) {
    let job = job();
    t.store.jobs().put(&job, at(0)).await.unwrap();
    assert!(t.store.jobs().pause(Some(&job.name), "ada", at(1)).await.unwrap());
    assert!(!t.store.jobs().pause(Some(&job.name), "bob", at(2)).await.unwrap(), "it was paused before");
    let pauses = t.store.jobs().pauses().await.unwrap();
    assert_eq!(pauses.of("wallet").map(|pause| (pause.since, pause.by.as_str())), Some((at(1), "ada")));
    assert!(!pauses.covers("other"));
    let ticked = t.store.jobs().tick(&job, &due(60), at(60), at(60)).await.unwrap().unwrap();
    assert_eq!((ticked.fate, ticked.runs), (Fate::Paused, vec![]));
    t.store.jobs().trigger(&job.name, None, "ada", at(60)).await.unwrap();
    assert!(
        t.store.runs().claim(&job.name, lease(1, 61)).await.unwrap().is_none(),
        "whoever did not hear of it"
    );
    assert!(t.store.jobs().resume(Some(&job.name), "ada", at(61)).await.unwrap());
    assert!(!t.store.jobs().resume(None, "ada", at(61)).await.unwrap());
    t.store.jobs().pause(None, "bob", at(62)).await.unwrap();
    let ticked = t.store.jobs().tick(&job, &due(120), at(120), at(120)).await.unwrap().unwrap();
    assert_eq!(ticked.fate, Fate::Paused);
    assert_eq!(t.store.jobs().heartbeat(&job.name).await.unwrap(), at(120), "it does not count as missed");
    t.store.jobs().resume(None, "bob", at(121)).await.unwrap();
    t.discover(&job, &["a"], 121).await;
    t.store.jobs().pause(Some(&job.name), "bob", at(122)).await.unwrap();
    assert!(t.claim(1, 123).await.is_empty());
    t.store.jobs().resume(Some(&job.name), "bob", at(124)).await.unwrap();
    assert_eq!(t.claim_one(125).await.key, "a");
    let trail = t.trail().await;
    let by_whom: Vec<&str> = trail.lines().filter(|line| !line.contains("triggered")).collect();
    expect![[r#"
        ada paused wallet: 
        ada resumed wallet: 
        bob paused all jobs: 
        bob resumed all jobs: 
        bob paused wallet: 
        bob resumed wallet: "#]]
    .assert_eq(&by_whom.join("\n"));
}

async fn parameters_reach_the_run(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    t.store.jobs().trigger(&job().name, Some("{\"only\":7}"), "ada", at(1)).await.unwrap();
    let run = t.store.runs().claim(&job().name, lease(1, 2)).await.unwrap().unwrap();
    assert_eq!((run.params.as_deref(), run.scheduled_at), (Some("{\"only\":7}"), None));
}
