//! Manual decisions about items.

use test_support::on_both;

use crate::items::DecisionRequest;
use domain::item::{ManualDecision, State};
use expect_test::expect;

use super::support::{T, at, awaiting, failed, job, permanent, resolved};
use crate::StoreError;

on_both! {
    each_decision_in_each_state,
    decision_is_audited_with_who_and_why,
    retry_of_an_ended_item_starts_at_attempt_one,
    retry_of_a_waiting_item_keeps_its_attempts,
    decision_is_progress_of_the_run,
    two_people_decide_at_once,
    unknown_item_is_reported,
}

async fn decide(t: &T, key: &str, decision: ManualDecision, now: i64) -> Result<State, StoreError> {
    let item =
        t.store.items().decide("wallet", key, DecisionRequest::new(decision, None, "ada"), at(now)).await?;
    Ok(item.state)
}

async fn each_decision_in_each_state(t: T) {
    let decisions = [ManualDecision::Retry, ManualDecision::Resolve, ManualDecision::Abandon];
    let mut lines = String::new();
    for (n, decision) in decisions.into_iter().enumerate() {
        let key = |state: &str| format!("{state}-{n}");
        let now = 100 * i64::try_from(n).unwrap();
        t.attempt(&key("resolved"), resolved(), now).await;
        t.attempt(&key("manual_required"), permanent(), now).await;
        t.attempt(&key("abandoned"), permanent(), now).await;
        decide(&t, &key("abandoned"), ManualDecision::Abandon, now).await.unwrap();
        t.attempt(&key("awaiting"), awaiting(), now).await;
        t.attempt(&key("scheduled"), failed(), now).await;
        t.discover(&job(), &[&key("running")], now).await;
        t.claim_one(now).await;
        for state in State::ALL {
            let before = t.store.items().get("wallet", &key(state.as_str())).await.unwrap().unwrap();
            assert_eq!(before.state, state);
            let line = match decide(&t, &before.key, decision, now).await {
                Ok(after) => format!("{decision:?} {state} -> {after}\n"),
                Err(error) => format!("{decision:?} {state}: {error}\n"),
            };
            lines.push_str(&line);
        }
        t.tamper("UPDATE item SET state = 'abandoned'; DELETE FROM due; DELETE FROM claim").await.unwrap();
    }
    expect![[r#"
        Retry scheduled -> scheduled
        Retry running: an item that is running cannot be retried_manually
        Retry awaiting -> scheduled
        Retry resolved -> scheduled
        Retry manual_required -> scheduled
        Retry abandoned -> scheduled
        Resolve scheduled -> resolved
        Resolve running: an item that is running cannot be resolved_manually
        Resolve awaiting -> resolved
        Resolve resolved: an item that is resolved cannot be resolved_manually
        Resolve manual_required -> resolved
        Resolve abandoned: an item that is abandoned cannot be resolved_manually
        Abandon scheduled -> abandoned
        Abandon running: an item that is running cannot be abandoned_manually
        Abandon awaiting -> abandoned
        Abandon resolved: an item that is resolved cannot be abandoned_manually
        Abandon manual_required -> abandoned
        Abandon abandoned: an item that is abandoned cannot be abandoned_manually
    "#]]
    .assert_eq(&lines);
}

async fn decision_is_audited_with_who_and_why(t: T) {
    t.attempt("a", permanent(), 0).await;
    let item = t
        .store
        .items()
        .decide(
            "wallet",
            "a",
            DecisionRequest::new(ManualDecision::Resolve, Some("paid by phone"), "ada"),
            at(9),
        )
        .await
        .unwrap();
    assert_eq!((item.note.as_deref(), item.updated_at), (Some("paid by phone"), at(9)));
    expect!["ada resolved_manually a: manual_required -> resolved; paid by phone"]
        .assert_eq(t.trail().await.lines().last().unwrap());
    let before = t.everything().await;
    decide(&t, "a", ManualDecision::Abandon, 10).await.unwrap_err();
    assert_eq!(t.everything().await, before, "what is refused leaves no trace");
}

async fn retry_of_an_ended_item_starts_at_attempt_one(t: T) {
    t.attempt("a", permanent(), 0).await;
    decide(&t, "a", ManualDecision::Retry, 9).await.unwrap();
    let item = t.claim_one(9).await;
    assert_eq!((item.attempts, item.series), (0, 2));
}

async fn retry_of_a_waiting_item_keeps_its_attempts(t: T) {
    t.attempt("a", failed(), 0).await;
    decide(&t, "a", ManualDecision::Retry, 1).await.unwrap();
    let item = t.claim_one(1).await;
    assert_eq!((item.attempts, item.series), (1, 1));
}

async fn decision_is_progress_of_the_run(t: T) {
    let (id, _) = t.discover(&job(), &["a", "b"], 0).await;
    decide(&t, "a", ManualDecision::Abandon, 1).await.unwrap();
    assert_eq!(t.run_view(id).await.done, 1);
    decide(&t, "b", ManualDecision::Retry, 2).await.unwrap();
    let run = t.run_view(id).await;
    assert_eq!((run.state.as_str(), run.done, run.failed), ("finished", 2, 0));
    let item = t.claim_one(2).await;
    t.end(&item, resolved(), 3).await;
    assert_eq!(t.run_view(id).await.done, 2, "the attempt after it is not counted again");
}

async fn two_people_decide_at_once(t: T) {
    t.attempt("a", permanent(), 0).await;
    let people: Vec<_> =
        [ManualDecision::Resolve, ManualDecision::Abandon, ManualDecision::Resolve, ManualDecision::Abandon]
            .into_iter()
            .map(|decision| {
                let t = t.clone();
                tokio::spawn(async move { decide(&t, "a", decision, 1).await })
            })
            .collect();
    let mut decided = 0;
    for person in people {
        match person.await.unwrap() {
            Ok(_) => decided += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict(_)), "{error}"),
        }
    }
    assert_eq!(decided, 1);
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM audit WHERE actor = 'ada' AND subject = 'a'").await, 1);
}

async fn unknown_item_is_reported(t: T) {
    let error = decide(&t, "a", ManualDecision::Retry, 0).await.unwrap_err();
    expect![[r#"there is no item "a" of job "wallet""#]].assert_eq(&error.to_string());
}
