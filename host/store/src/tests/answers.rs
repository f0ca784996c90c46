//! Repeated requests: carried out once, with the same response each time.

use domain::effect::NewItem;
use jiff::SignedDuration;
use test_support::{Kind, on_both};
use tokio::sync::oneshot;

use super::support::{T, at, config, job};
use crate::Store;
use crate::answers::sql as answers_sql;
use crate::answers::{Keyed, Once, RESPONSES_KEPT, StoredResponse};
use crate::db::args;
use crate::jobs::sql as jobs_sql;

on_both! {
    request_is_carried_out_once,
    key_of_another_request_is_refused,
    key_is_forgotten_after_its_time,
    refused_request_leaves_nothing,
    function_that_fails_takes_only_its_own_writes_back,
    same_request_at_the_same_time_is_refused,
    another_host_answers_from_the_store,
    two_hosts_carry_a_request_out_once,
    host_that_dies_before_the_answer_leaves_nothing,
}

fn keyed(key: &str) -> Keyed<'_> {
    Keyed { actor: "ada", key, sha256: "of the request" }
}

fn answer(status: u16, body: &str) -> StoredResponse {
    StoredResponse { status, location: Some("/here".to_owned()), body: body.as_bytes().to_vec() }
}

/// Adds an item with a different key each time, so that a repetition is visible.
async fn add(store: &Store, key: &str) -> StoredResponse {
    let item = NewItem { job: job().name, key: key.to_owned(), payload: "{}".to_owned() };
    store.items().add(&item, "ada", at(0)).await.unwrap();
    answer(201, key)
}

async fn items(t: &T) -> usize {
    t.store.items().list(None, None, 99).await.unwrap().len()
}

async fn request_is_carried_out_once(t: T) {
    let first = t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    assert_eq!(first, Once::Now(answer(201, "a")));
    let second = t.store.answers().once(keyed("k"), at(1), add(&t.store, "b")).await.unwrap();
    assert_eq!(second, Once::Before(answer(201, "a")));
    assert_eq!(items(&t).await, 1);
    // Each actor has its own key space.
    let other = Keyed { actor: "eve", ..keyed("k") };
    let third = t.store.answers().once(other, at(1), add(&t.store, "c")).await.unwrap();
    assert_eq!(third, Once::Now(answer(201, "c")));
    // The response of a request that writes nothing is stored too.
    let idle = async { answer(200, "nothing to do") };
    t.store.answers().once(keyed("idle"), at(0), idle).await.unwrap();
    let again = t.store.answers().once(keyed("idle"), at(0), add(&t.store, "d")).await.unwrap();
    assert_eq!(again, Once::Before(answer(200, "nothing to do")));
    assert_eq!(items(&t).await, 2);
}

async fn key_of_another_request_is_refused(t: T) {
    t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    let other = Keyed { sha256: "of another one", ..keyed("k") };
    assert_eq!(t.store.answers().once(other, at(0), add(&t.store, "b")).await.unwrap(), Once::Other);
    assert_eq!(items(&t).await, 1);
}

async fn key_is_forgotten_after_its_time(t: T) {
    t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    let last = at(0).checked_add(RESPONSES_KEPT).unwrap();
    assert_eq!(t.store.answers().prune(last).await.unwrap(), 0);
    let again = t.store.answers().once(keyed("k"), last, add(&t.store, "b")).await.unwrap();
    assert_eq!(again, Once::Before(answer(201, "a")));
    let later = last.checked_add(SignedDuration::from_secs(1)).unwrap();
    let restarted = t.store.answers().once(keyed("k"), later, add(&t.store, "b")).await.unwrap();
    assert_eq!(restarted, Once::Now(answer(201, "b")));
    assert_eq!(t.store.answers().prune(later).await.unwrap(), 0);
    let over = later.checked_add(RESPONSES_KEPT + SignedDuration::from_secs(1)).unwrap();
    assert_eq!(t.store.answers().prune(over).await.unwrap(), 1);
}

async fn refused_request_leaves_nothing(t: T) {
    let before = t.everything().await;
    let work = async {
        add(&t.store, "a").await;
        answer(409, "not now")
    };
    let refused = t.store.answers().once(keyed("k"), at(0), work).await.unwrap();
    assert_eq!(refused, Once::Now(answer(409, "not now")));
    assert_eq!(t.everything().await, before);
    let again = t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    assert_eq!(again, Once::Now(answer(201, "a")));
}

async fn function_that_fails_takes_only_its_own_writes_back(t: T) {
    let work = async {
        add(&t.store, "a").await;
        let mut part = t.store.db.begin().await.unwrap();
        part.execute(jobs_sql::PAUSE_ADD, &args! { job: "*", now: at(0), by: "ada" }).await.unwrap();
        let args = args! { actor: "ada", key: "k", status: "no number", location: "", body: vec![0] };
        let refused = part.execute(answers_sql::ANSWER_PUT, &args).await;
        assert_eq!(refused.is_err(), t.kind == Kind::Postgres, "SQLite takes any type");
        drop(part);
        assert_eq!(items(&t).await, 1, "the request sees what it wrote");
        add(&t.store, "b").await
    };
    let done = t.store.answers().once(keyed("k"), at(0), work).await.unwrap();
    assert_eq!(done, Once::Now(answer(201, "b")));
    assert_eq!(items(&t).await, 2);
    assert!(!t.store.jobs().pauses().await.unwrap().covers("wallet"));
}

async fn same_request_at_the_same_time_is_refused(t: T) {
    let (started, has_started) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let store = t.store.clone();
    let first = tokio::spawn(async move {
        let work = async {
            started.send(()).unwrap();
            may_go_on.await.unwrap();
            add(&store, "a").await
        };
        store.answers().once(keyed("k"), at(0), work).await
    });
    has_started.await.unwrap();
    let second = t.store.answers().once(keyed("k"), at(0), add(&t.store, "b")).await.unwrap();
    assert_eq!(second, Once::Running);
    go_on.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), Once::Now(answer(201, "a")));
    let third = t.store.answers().once(keyed("k"), at(0), add(&t.store, "b")).await.unwrap();
    assert_eq!(third, Once::Before(answer(201, "a")));
}

async fn another_host_answers_from_the_store(t: T) {
    t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    let other = Store::open(&config(&t.url, &t.shop_url)).await.unwrap();
    let again = other.answers().once(keyed("k"), at(0), add(&other, "b")).await.unwrap();
    assert_eq!(again, Once::Before(answer(201, "a")));
    other.close().await;
}

/// Both hosts check for the request before either has written.
async fn two_hosts_carry_a_request_out_once(t: T) {
    let other = Store::open(&config(&t.url, &t.shop_url)).await.unwrap();
    let (looked, has_looked) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let late = other.answers().once(keyed("k"), at(0), async {
        looked.send(()).unwrap();
        may_go_on.await.unwrap();
        let item = NewItem { job: job().name, key: "b".to_owned(), payload: String::new() };
        other.items().add(&item, "ada", at(0)).await.unwrap_err();
        answer(503, "")
    });
    let first = async {
        has_looked.await.unwrap();
        t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
        go_on.send(()).unwrap();
    };
    let (late, ()) = tokio::join!(late, first);
    assert_eq!(late.unwrap(), Once::Before(answer(201, "a")));
    assert_eq!(items(&t).await, 1);
    other.close().await;
}

/// The request is dropped halfway, as when its process is killed.
async fn host_that_dies_before_the_answer_leaves_nothing(t: T) {
    let before = t.everything().await;
    let (added, has_added) = oneshot::channel();
    let store = t.store.clone();
    let dying = tokio::spawn(async move {
        let work = async {
            add(&store, "a").await;
            added.send(()).unwrap();
            std::future::pending::<StoredResponse>().await
        };
        store.answers().once(keyed("k"), at(0), work).await
    });
    has_added.await.unwrap();
    dying.abort();
    dying.await.unwrap_err();
    let again = t.store.answers().once(keyed("k"), at(0), add(&t.store, "a")).await.unwrap();
    assert_eq!(again, Once::Now(answer(201, "a")));
    assert_ne!(t.everything().await, before);
    assert_eq!(items(&t).await, 1);
}
