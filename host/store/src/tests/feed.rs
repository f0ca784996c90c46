//! The feed: each committed change is published by its commit, to this process and to other hosts.

use std::time::Duration;

use domain::alert::{Alert, Severity};
use domain::engine_event::{EngineEvent, WORK_ACTIONS};
use domain::failure::ErrorInfo;
use domain::item::ManualDecision;
use futures_util::FutureExt;
use serde_json::json;
use test_support::{Kind, execute, on_both};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::support::{T, at, config, failed, job, permanent, resolved};
use crate::answers::{Keyed, StoredResponse};
use crate::audit::KINDS;
use crate::feed::Published;
use crate::items::DecisionRequest;
use crate::{Store, StoreConfig};

on_both! {
    runs_and_attempts_are_published,
    decisions_and_settings_are_published,
    alerts_and_dead_events_are_published,
    a_failed_change_is_not_published,
    a_request_is_published_when_it_commits,
    work_wakes_this_process,
    other_hosts_get_the_events,
    events_without_work_wake_no_other_host,
    other_hosts_are_told_that_they_missed_events,
    unknown_notifications_mean_that_something_changed,
    hosts_without_notifications_look_regularly,
}

/// A renamed action would silently stop to wake the loops.
#[test]
fn actions_that_make_work_are_kinds_of_records() {
    let unknown: Vec<_> = WORK_ACTIONS.iter().filter(|action| !KINDS.contains(action)).collect();
    assert_eq!(unknown, Vec::<&&str>::new());
}

const PATIENCE: Duration = Duration::from_secs(20);

/// The documents of all events so far.
fn published(feed: &mut Receiver<Published>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match feed.try_recv() {
            Ok(published) => all.push(serde_json::to_string(&published).unwrap()),
            Err(TryRecvError::Empty) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

fn kinds(feed: &mut Receiver<Published>) -> Vec<&'static str> {
    let mut all = Vec::new();
    while let Ok(published) = feed.try_recv() {
        all.push(published.event.kind());
    }
    all
}

async fn runs_and_attempts_are_published(t: T) {
    let mut feed = t.store.feed().listen();
    let (run, _) = t.discover(&job(), &["a"], 0).await;
    let run = run.to_string();
    let of_run = |kind: &str| json!({ "kind": kind, "job": "wallet", "run_id": run }).to_string();
    let audited =
        json!({ "kind": "audited", "actor": "ada", "action": "triggered", "job": "wallet", "subject": run });
    let expected =
        [of_run("run-started"), audited.to_string(), of_run("discovered"), of_run("run-progressed")];
    assert_eq!(documents(&published(&mut feed)), documents(&expected));
    let item = t.claim_one(0).await;
    assert_eq!(published(&mut feed), Vec::<String>::new());
    t.end(&item, resolved(), 1).await;
    let ended = json!({ "kind": "attempt-ended", "job": "wallet", "key": "a", "verdict": "resolved" });
    assert_eq!(documents(&published(&mut feed)), documents(&[ended.to_string(), of_run("run-finished")]));
}

/// Documents without the order of their fields.
fn documents(texts: &[String]) -> Vec<serde_json::Value> {
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

async fn decisions_and_settings_are_published(t: T) {
    t.attempt("a", failed(), 0).await;
    let mut feed = t.store.feed().listen();
    t.store.jobs().pause(Some(&job().name), "ada", at(1)).await.unwrap();
    let decided = DecisionRequest::new(ManualDecision::Resolve, None, "ada");
    t.store.items().decide("wallet", "a", decided, at(2)).await.unwrap();
    t.store.jobs().resume(Some(&job().name), "ada", at(3)).await.unwrap();
    let actions: Vec<String> =
        documents(&published(&mut feed)).iter().map(|event| event["action"].to_string()).collect();
    assert_eq!(actions, ["\"paused\"", "\"resolved_manually\"", "\"resumed\""]);
}

async fn alerts_and_dead_events_are_published(t: T) {
    let mut feed = t.store.feed().listen();
    let alert = Alert {
        kind: "LOW".to_owned(),
        key: "stock".to_owned(),
        severity: Severity::Warning,
        message: "low".to_owned(),
        metadata: String::new(),
    };
    t.store.alerts().raise(&job().name, &alert, at(0)).await.unwrap();
    let raised = json!({ "kind": "alert-raised", "job": "wallet", "alert": "LOW", "key": "stock" });
    assert_eq!(documents(&published(&mut feed)), [raised]);
    let open = t.store.alerts().list(true, 10).await.unwrap();
    t.store.alerts().acknowledge(open[0].id, "ada", at(1)).await.unwrap();
    assert_eq!(kinds(&mut feed), ["audited"]);
    // An item that fails for good raises an alert in the same commit.
    t.discover(&job(), &["a"], 2).await;
    let item = t.claim_one(2).await;
    kinds(&mut feed);
    t.end(&item, permanent(), 3).await;
    assert_eq!(kinds(&mut feed), ["alert-raised", "attempt-ended", "run-finished"]);
}

async fn a_failed_change_is_not_published(t: T) {
    let run = t.run(&job(), 0).await;
    let mut feed = t.store.feed().listen();
    let decided = DecisionRequest::new(ManualDecision::Resolve, None, "ada");
    t.store.items().decide("wallet", "no such item", decided, at(1)).await.unwrap_err();
    let stale = domain::run::ClaimedRun { epoch: 99, ..run };
    t.store.runs().fail_discovery(&stale, &ErrorInfo::new("code", "text"), at(1)).await.unwrap();
    assert_eq!(kinds(&mut feed), Vec::<&str>::new());
}

async fn a_request_is_published_when_it_commits(t: T) {
    let mut feed = t.store.feed().listen();
    let keyed = |key: &'static str| Keyed { actor: "ada", key, sha256: "of the request" };
    let pause = async |feed: &mut Receiver<Published>, status: u16| {
        t.store.jobs().pause(None, "ada", at(0)).await.unwrap();
        assert_eq!(kinds(feed), Vec::<&str>::new(), "the request has not committed");
        StoredResponse { status, location: None, body: Vec::new() }
    };
    t.store.answers().once(keyed("refused"), at(0), pause(&mut feed, 409)).await.unwrap();
    assert_eq!(kinds(&mut feed), Vec::<&str>::new());
    t.store.answers().once(keyed("done"), at(0), pause(&mut feed, 200)).await.unwrap();
    assert_eq!(kinds(&mut feed), ["audited"]);
    // The stored answer of the repeated request changes nothing.
    t.store.answers().once(keyed("done"), at(0), pause(&mut feed, 200)).await.unwrap();
    assert_eq!(kinds(&mut feed), Vec::<&str>::new());
}

async fn work_wakes_this_process(t: T) {
    let woken = t.store.feed().woken();
    t.store.jobs().pause(None, "ada", at(0)).await.unwrap();
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
}

/// A second host on the same database. On SQLite there is none, because the file is locked.
async fn other_host(t: &T) -> Option<Store> {
    match t.kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some(Store::open(&config(&t.url, &t.shop_url)).await.unwrap()),
    }
}

/// Repeats `change` until `feed` has an event that satisfies `wanted`: a store begins to listen a moment
/// after it opens.
async fn until<F: Future<Output = ()>>(
    feed: &mut Receiver<Published>,
    wanted: impl Fn(&Published) -> bool,
    change: impl Fn() -> F,
) -> Published {
    let heard = async {
        let mut again = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                published = feed.recv() => match published {
                    Ok(published) if wanted(&published) => return published,
                    _ => {}
                },
                _ = again.tick() => change().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the event arrives")
}

async fn other_hosts_get_the_events(t: T) {
    let Some(other) = other_host(&t).await else { return };
    let mut feed = other.feed().listen();
    let woken = other.feed().woken();
    let trigger = || async {
        t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    };
    let started = |published: &Published| matches!(published.event, EngineEvent::RunStarted { .. });
    assert!(until(&mut feed, started, trigger).await.remote);
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
    other.close().await;
}

async fn events_without_work_wake_no_other_host(t: T) {
    let Some(other) = other_host(&t).await else { return };
    let mut feed = other.feed().listen();
    // From here on the other store listens.
    let started = |published: &Published| matches!(published.event, EngineEvent::RunStarted { .. });
    let trigger = || async {
        t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    };
    until(&mut feed, started, trigger).await;
    let woken = other.feed().woken();
    t.discover(&job(), &["a"], 0).await;
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
    let progressed = |published: &Published| matches!(published.event, EngineEvent::RunProgressed { .. });
    until(&mut feed, progressed, || async {}).await;
    let item = t.claim_one(0).await;
    let woken = other.feed().woken();
    t.end(&item, resolved(), 1).await;
    let finished = |published: &Published| matches!(published.event, EngineEvent::RunFinished { .. });
    until(&mut feed, finished, || async {}).await;
    assert!(woken.now_or_never().is_none(), "the end of an attempt makes no work");
    other.close().await;
}

async fn other_hosts_are_told_that_they_missed_events(t: T) {
    let Some(other) = other_host(&t).await else { return };
    let mut feed = other.feed().listen();
    let flood = || async {
        let subject = "s".repeat(1_000);
        let event = |_| EngineEvent::Audited {
            actor: "ada".to_owned(),
            action: "paused".to_owned(),
            job: None,
            subject: subject.clone(),
        };
        t.store.feed().publish((0..100).map(event).collect());
    };
    let missed = |published: &Published| published.event == EngineEvent::Missed;
    assert!(until(&mut feed, missed, flood).await.remote);
    other.close().await;
}

/// Another version of the host may send a notification that this one cannot read.
async fn unknown_notifications_mean_that_something_changed(t: T) {
    if t.kind == Kind::Sqlite {
        return;
    }
    let mut feed = t.store.feed().listen();
    for payload in ["", "an id", "{\"from\":\"x\",\"events\":[{\"kind\":\"of-tomorrow\"},{\"kind\":1},7]}"] {
        let notify = format!("SELECT pg_notify('tidemill_work', '{payload}')");
        let notify = || async { execute(&t.url, &notify).await };
        let missed = |published: &Published| published.event == EngineEvent::Missed;
        assert!(until(&mut feed, missed, notify).await.remote);
    }
}

/// Without LISTEN and NOTIFY, a host assumes that it missed something.
async fn hosts_without_notifications_look_regularly(t: T) {
    if t.kind == Kind::Sqlite {
        return;
    }
    let quiet = StoreConfig { notify: false, ..config(&t.url, &t.shop_url) };
    let (one, other) = (Store::open(&quiet).await.unwrap(), Store::open(&quiet).await.unwrap());
    let mut feed = other.feed().listen();
    let woken = other.feed().woken();
    one.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    tokio::time::timeout(PATIENCE, woken).await.expect("its loops look at the store");
    let missed = Published { event: EngineEvent::Missed, remote: true };
    assert_eq!(tokio::time::timeout(PATIENCE, feed.recv()).await.unwrap(), Ok(missed));
    one.close().await;
    other.close().await;
}
