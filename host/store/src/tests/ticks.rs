//! Due instants are decided once, whoever asks.

use domain::schedule::Due;
use domain::tick::Fate;
use expect_test::expect;

use super::support::{T, at, conformance, job, page};

conformance! {
    schedule_starts_when_the_job_is_new,
    unknown_job_is_told,
    instant_fires_once,
    many_hosts_fire_an_instant_once,
    open_run_makes_an_overlap,
    missed_instants_are_listed,
    place_in_the_schedule_only_moves_on,
    trigger_runs_beside_an_open_run,
}

fn due(seconds: i64) -> Due {
    Due { at: at(seconds), missed: Vec::new() }
}

async fn schedule_starts_when_the_job_is_new(t: T) {
    t.store.put_job(&job(), at(0)).await.unwrap();
    assert_eq!(t.store.ticked_at(&job().name).await.unwrap(), at(0));
    t.store.put_job(&job(), at(500)).await.unwrap();
    assert_eq!(
        t.store.ticked_at(&job().name).await.unwrap(),
        at(0),
        "a restart does not skip what was missed"
    );
}

async fn unknown_job_is_told(t: T) {
    let error = t.store.ticked_at(&job().name).await.unwrap_err();
    expect!["there is no job wallet"].assert_eq(&error.to_string());
}

async fn instant_fires_once(t: T) {
    t.store.put_job(&job(), at(0)).await.unwrap();
    let ticked = t.store.tick(&job().name, &due(60), at(61)).await.unwrap().unwrap();
    assert_eq!(ticked.fate, Fate::Ran);
    assert_eq!(t.store.tick(&job().name, &due(60), at(62)).await.unwrap(), None);
    let runs = t.store.runs(Some("wallet"), 10).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [ticked.run.unwrap()]);
    assert_eq!((runs[0].started_by.as_str(), runs[0].created_at), ("schedule", at(61)));
    assert_eq!(t.store.ticked_at(&job().name).await.unwrap(), at(60));
}

async fn many_hosts_fire_an_instant_once(t: T) {
    t.store.put_job(&job(), at(0)).await.unwrap();
    let hosts: Vec<_> = (0..16)
        .map(|_| {
            let t = t.clone();
            tokio::spawn(async move { t.store.tick(&job().name, &due(60), at(60)).await.unwrap() })
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
    t.store.put_job(&job, at(0)).await.unwrap();
    t.store.tick(&job.name, &due(60), at(60)).await.unwrap().unwrap();
    let second = t.store.tick(&job.name, &due(120), at(120)).await.unwrap().unwrap();
    assert_eq!((second.fate, second.run), (Fate::Overlap, None));

    let run = t.store.claim_run(&job.name, super::support::lease(1, 121)).await.unwrap().unwrap();
    t.put(&run, &job, &page(&[], None), 121).await;
    let third = t.store.tick(&job.name, &due(180), at(180)).await.unwrap().unwrap();
    assert_eq!(third.fate, Fate::Ran);
}

async fn missed_instants_are_listed(t: T) {
    t.store.put_job(&job(), at(0)).await.unwrap();
    t.store.tick(&job().name, &due(60), at(60)).await.unwrap();
    // 60 is missed in the eyes of a host that looked before; it keeps its fate.
    let due = Due { at: at(240), missed: vec![at(180), at(120), at(60)] };
    t.store.tick(&job().name, &due, at(241)).await.unwrap().unwrap();
    let ticks = t.store.ticks("wallet", 10).await.unwrap();
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
    t.store.put_job(&job(), at(0)).await.unwrap();
    t.store.tick(&job().name, &due(120), at(120)).await.unwrap();
    t.store.tick(&job().name, &due(60), at(121)).await.unwrap();
    assert_eq!(t.store.ticked_at(&job().name).await.unwrap(), at(120));
}

async fn trigger_runs_beside_an_open_run(t: T) {
    t.store.put_job(&job(), at(0)).await.unwrap();
    t.store.tick(&job().name, &due(60), at(60)).await.unwrap();
    let run = t.store.trigger(&job().name, "ada", at(61)).await.unwrap();
    assert_eq!(t.run_view(run).await.started_by, "ada");
    assert_eq!(t.store.runs(None, 10).await.unwrap().len(), 2);
    let line = format!("ada triggered {run}: run started by hand\n");
    assert_eq!(t.trail().await, line);
}
