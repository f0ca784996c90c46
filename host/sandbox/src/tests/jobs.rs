//! Good guests: their inputs, their capabilities, and how their answers arrive.

use domain::effect::Effect;
use domain::failure::Failure;
use domain::outcome::Outcome;
use domain::plugin::VersionState;
use jiff::SignedDuration;
use test_support::needs;

use super::{Bench, job, witness};

#[tokio::test]
async fn a_guest_reaches_its_scope_through_every_capability() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&["witness"], vec![witness()]).await;
    let report = bench.process("witness", "").await;
    assert_eq!(report.result, Ok(Outcome::Resolved { note: Some("inserted 1".to_owned()) }));
    let calls = bench.scope.calls();
    assert_eq!(calls[..2], ["execute witness 4", "add"]);
    let effects = bench.scope.effects.lock().unwrap().clone();
    let [Effect::Event(event)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((event.topic.as_str(), event.key.as_str()), ("witness", "item-1"));
    assert!(calls[2].starts_with("set ") && calls[2].ends_with("/item-1"), "{calls:?}");
    assert_eq!(report.digest, bench.digest("witness"));
    let usage = report.usage;
    assert!(usage.memory_bytes_max > 0 && (1..=usage.wall_us).contains(&usage.cpu_us), "{usage:?}");
    assert_eq!(usage.host_calls, 3, "{usage:?}");
    assert!(usage.host_bytes > 100, "{usage:?}");
}

#[tokio::test]
async fn a_discovery_goes_page_by_page() {
    needs!(Plugins);
    let mut noop = job("noop");
    noop.config.insert("count".to_owned(), "3".to_owned());
    let bench = Bench::with_jobs(&["noop"], vec![noop]).await;
    let first = bench.discover("noop", None, 2).await.result.unwrap();
    assert_eq!(first.items.len(), 2);
    let second = bench.discover("noop", first.next.as_deref(), 2).await.result.unwrap();
    assert_eq!((second.items[0].key.as_str(), second.next), ("n-3", None));
}

#[tokio::test]
async fn every_ending_of_a_guest_arrives() {
    needs!(Plugins);
    let bench = Bench::with(&["flaky"]).await;
    let transient = bench.process("flaky", r#"{"fail_times": 1}"#).await.result;
    assert!(matches!(transient, Err(Failure::Transient(_))), "{transient:?}");
    let permanent = bench.process("flaky", r#"{"permanent": true}"#).await.result;
    assert!(matches!(permanent, Err(Failure::Permanent(e)) if e.code == "told-permanent"));
    let throttled = bench.process("flaky", r#"{"throttle_ms": 1500}"#).await.result;
    let wait = SignedDuration::from_millis(1500);
    assert!(matches!(throttled, Err(Failure::Throttled { retry_after, .. }) if retry_after == wait));
    let awaiting = bench.process("flaky", r#"{"awaiting_times": 1}"#).await.result;
    assert!(matches!(awaiting, Ok(Outcome::Awaiting { .. })), "{awaiting:?}");
    let snoozed = bench.process("flaky", r#"{"snooze_ms": 1000}"#).await.result;
    assert!(matches!(snoozed, Ok(Outcome::Snoozed { .. })), "{snoozed:?}");
}

#[tokio::test]
async fn a_config_that_the_schema_refuses_keeps_the_version_out() {
    needs!(Plugins);
    let mut wallets = job("wallet-keygen-retry");
    let business = domain::job::Access::ReadWrite;
    wallets.grants.datasources.insert("business".to_owned(), business);
    wallets.config.insert("keygen_timeout_seconds".to_owned(), "soon".to_owned());
    let plugin = "wallet-keygen-retry";
    let mut bench = Bench::with_jobs(&[plugin], vec![wallets.clone()]).await;
    let blocked = |bench: &Bench| match &bench.sandbox.versions()[0].state {
        VersionState::Rejected(reason) => reason.clone(),
        other => panic!("{other:?}"),
    };
    let reason = blocked(&bench);
    assert!(reason.contains("topic"), "{reason}");

    // The same file, once the admin has granted the topic: now its config is checked.
    let topic = reason.split('"').nth(1).unwrap().to_owned();
    wallets.grants.topics.insert(topic);
    bench.jobs = vec![wallets.clone().into()];
    bench.rescan().await;
    let reason = blocked(&bench);
    assert!(reason.contains("/keygen_timeout_seconds: \"soon\" is not of type"), "{reason}");
    assert!(reason.ends_with("correct it under [jobs.wallet-keygen-retry.config]"), "{reason}");

    wallets.config.insert("keygen_timeout_seconds".to_owned(), "90".to_owned());
    bench.jobs = vec![wallets.into()];
    assert_eq!(bench.rescan().await.activated.len(), 1);
}
