//! Host functions, called without a guest.

use std::sync::Arc;

use domain::clock::Clock;
use domain::effect::{AuditRecord, Change, Effect, Event, Metric, NewItem};
use domain::id::EventId;
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::{Describe, Statement};
use domain::scope::ScopeError;
use jiff::{SignedDuration, Timestamp};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use super::{FakeScope, job, witness};
use crate::guest::bindings::{alerts, audit, config, events, items, keyvalue, kv, locks, metrics, sql};
use crate::guest::clocks::{GuestMonotonicClock, GuestWallClock};
use crate::guest::log::LogSource;
use crate::guest::state::{AttemptContext, GuestState};

fn state(job: JobSpec, scope: &Arc<FakeScope>) -> GuestState {
    let statement = Statement {
        datasource: "witness".to_owned(),
        sql: "DELETE FROM witness WHERE weight = $1".to_owned(),
        writes: true,
        params: None,
    };
    let statements = [("clear".to_owned(), statement)].into();
    let describe = Arc::new(Describe { statements, ..Describe::default() });
    let limits = job.limits.clone();
    let granted = AttemptContext { job: Arc::new(job), describe, scope: scope.clone(), fence: None };
    GuestState::new(Some(granted), &limits, &super::outside(), LogSource::default())
}

fn describing() -> GuestState {
    GuestState::new(None, &Limits::DEFAULT, &super::outside(), LogSource::default())
}

#[tokio::test]
async fn sql_runs_declared_statements_on_granted_datasources() {
    let scope = Arc::default();
    let mut state = state(witness(), &scope);
    let rows = sql::Host::execute(&mut state, "clear".to_owned(), vec![sql::Value::Real(f64::NAN)]);
    assert!(matches!(rows.await, Ok(1)));
    let unknown = sql::Host::execute(&mut state, "drop".to_owned(), vec![]).await;
    assert!(matches!(unknown, Err(sql::Error::UnknownStatement(name)) if name == "drop"));
    let blob = sql::Value::Blob(vec![0; Limits::DEFAULT.sql_bytes + 1]);
    let large = sql::Host::query(&mut state, "clear".to_owned(), vec![blob]).await;
    assert!(matches!(large, Err(sql::Error::Limit(_))));
    assert_eq!(scope.calls(), ["execute witness 1"]);
}

#[tokio::test]
async fn a_call_with_the_wrong_number_of_parameters_is_refused_by_name() {
    let scope = Arc::default();
    let mut state = state(witness(), &scope);
    for given in [0, 2] {
        let values = vec![sql::Value::Null; given];
        for answer in [
            sql::Host::execute(&mut state, "clear".to_owned(), values.clone()).await.map(|_| ()),
            sql::Host::query(&mut state, "clear".to_owned(), values).await.map(|_| ()),
        ] {
            let text = format!("statement \"clear\" has 1 parameter, and {given} were given");
            assert!(matches!(&answer, Err(sql::Error::Database(why)) if *why == text), "{answer:?}");
        }
    }
    assert!(scope.calls().is_empty());
}

fn alert() -> alerts::Alert {
    alerts::Alert {
        kind: "BEHIND".to_owned(),
        key: "all".to_owned(),
        severity: alerts::Severity::Critical,
        message: "10 behind".to_owned(),
        metadata: String::new(),
    }
}

#[tokio::test]
async fn effects_are_handed_to_the_scope() {
    let scope: Arc<FakeScope> = Arc::default();
    let state = &mut state(job("witness"), &scope);
    alerts::Host::raise(state, alert()).await.unwrap();
    audit::Host::record_action(state, "reset".to_owned(), "order 7".to_owned(), "late".to_owned())
        .await
        .unwrap();
    metrics::Host::add(state, "orders_total".to_owned(), vec![], 2).await.unwrap();
    metrics::Host::set(state, "orders".to_owned(), vec![], -0.5).await.unwrap();
    items::Host::enqueue(state, "other".to_owned(), "k".to_owned(), "{}".to_owned()).await.unwrap();
    let nameless = items::Host::enqueue(state, "No Job".to_owned(), "k".to_owned(), String::new()).await;
    assert!(matches!(nameless, Err(items::Error::Denied(_))));
    let id = events::Host::publish(state, "t".to_owned(), "k".to_owned(), "{}".to_owned()).await.unwrap();
    assert!(id.parse::<EventId>().is_ok(), "{id:?}");
    let metric = |name: &str, change| Metric { name: name.to_owned(), labels: vec![], change };
    let expected = [
        Effect::Alert(domain::alert::Alert {
            kind: "BEHIND".to_owned(),
            key: "all".to_owned(),
            severity: domain::alert::Severity::Critical,
            message: "10 behind".to_owned(),
            metadata: String::new(),
        }),
        Effect::Audit(AuditRecord {
            action: "reset".to_owned(),
            subject: "order 7".to_owned(),
            detail: "late".to_owned(),
        }),
        Effect::Metric(metric("orders_total", Change::Add(2))),
        Effect::Metric(metric("orders", Change::Set(-0.5))),
        Effect::Item(NewItem {
            job: "other".parse().unwrap(),
            key: "k".to_owned(),
            payload: "{}".to_owned(),
        }),
        Effect::Event(Event::new("t", "k", "{}")),
    ];
    assert_eq!(*scope.effects.lock().unwrap(), expected);
}

#[tokio::test]
async fn nothing_is_granted_by_default() {
    let scope = Arc::default();
    for state in [&mut state(job("witness"), &scope), &mut describing()] {
        let sql = sql::Host::query(state, "clear".to_owned(), vec![]).await;
        assert!(matches!(sql, Err(sql::Error::Denied(_))));
        let bucket = keyvalue::Host::open(state, "b".to_owned()).await.unwrap();
        assert!(matches!(bucket, Err(keyvalue::Error::AccessDenied)));
        assert!(matches!(config::Host::get(state, "any".to_owned()), Ok(None)));
    }
    assert_eq!(scope.calls(), Vec::<String>::new());
    let state = &mut describing();
    let published = events::Host::publish(state, "t".to_owned(), "k".to_owned(), String::new()).await;
    assert!(matches!(published, Err(events::Error::Denied(_))));
    let raised = alerts::Host::raise(state, alert()).await;
    assert!(matches!(raised, Err(alerts::Error::Denied(_))));
    let recorded = audit::Host::record_action(state, "a".to_owned(), String::new(), String::new()).await;
    assert!(matches!(recorded, Err(audit::Error::Denied(_))));
    let added = items::Host::enqueue(state, "a".to_owned(), "k".to_owned(), String::new()).await;
    assert!(matches!(added, Err(items::Error::Denied(_))));
    let counted = metrics::Host::add(state, "a_total".to_owned(), vec![], 1).await;
    assert!(matches!(counted, Err(metrics::Error::Denied(_))));
}

#[tokio::test]
async fn buckets_have_names_and_read_their_writes() {
    use keyvalue::{Host, HostBucket};
    use wasmtime::component::Resource;

    let scope = Arc::default();
    let mut state = state(witness(), &scope);
    let bucket = Host::open(&mut state, "b".to_owned()).await.unwrap().unwrap().rep();
    let own = || Resource::new_borrow(bucket);
    let value = b"v".to_vec();
    HostBucket::set(&mut state, own(), "k".to_owned(), value.clone()).await.unwrap().unwrap();
    let got = HostBucket::get(&mut state, own(), "k".to_owned()).await.unwrap().unwrap();
    assert_eq!(got, Some(value.clone()));
    let exists = HostBucket::exists(&mut state, own(), "other".to_owned()).await.unwrap();
    assert!(matches!(exists, Ok(false)));
    let keys = HostBucket::list_keys(&mut state, own(), Some(u64::MAX)).await.unwrap().unwrap();
    assert_eq!(keys.keys, Vec::<String>::new());

    let nameless = Host::open(&mut state, String::new()).await.unwrap();
    assert!(matches!(nameless, Err(keyvalue::Error::Other(why)) if why.starts_with("limit: ")));
    let hidden = Host::open(&mut state, "b\0".to_owned()).await.unwrap();
    assert!(matches!(hidden, Err(keyvalue::Error::Other(why)) if why.starts_with("refused: ")));
    // An unknown handle ends the attempt, not the host.
    assert!(HostBucket::get(&mut state, Resource::new_borrow(77), "k".to_owned()).await.is_err());
}

#[test]
fn errors_of_the_scope_are_errors_of_each_interface() {
    type Variant = fn(String) -> ScopeError;
    let variants: [Variant; 6] = [
        ScopeError::Denied,
        ScopeError::Limit,
        ScopeError::Refused,
        ScopeError::Database,
        ScopeError::Unavailable,
        ScopeError::Store,
    ];
    macro_rules! cases {
        ($error:expr, $($interface:ident),*) => {
            [$(format!("{:?}", $interface::Error::from($error.clone()))),*]
        };
    }
    let case = |text: &String| text.trim_start_matches("Error::").split('(').next().unwrap().to_owned();
    let row = |variant: Variant| {
        let error = variant("why".to_owned());
        let cases = cases!(error, events, alerts, audit, items, metrics, kv, locks, sql, keyvalue);
        cases.iter().map(case).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        variants.map(row),
        [
            "Denied Denied Denied Denied Denied Denied Denied Denied AccessDenied",
            "Limit Limit Limit Limit Limit Limit Limit Limit Other",
            "Denied Denied Denied Denied Name Denied Denied Denied Other",
            "Other Other Other Other Other Other Other Database Other",
            "Other Other Other Other Other Unavailable Unavailable Unavailable Other",
            "Other Other Other Other Other Unavailable Unavailable Unavailable Other",
        ]
    );
}

#[test]
fn guests_read_the_clock_of_the_sandbox() {
    let clock = Clock::manual(Timestamp::from_second(1_000).unwrap());
    let wall = GuestWallClock(clock.clone());
    let monotonic = GuestMonotonicClock::new(clock.clone());
    let start = monotonic.now();
    let Clock::Manual(hands) = &clock else { unreachable!() };
    hands.advance(SignedDuration::from_micros(2_500_900));
    assert_eq!(wall.now().as_millis(), 1_002_500);
    assert_eq!(monotonic.now() - start, 2_500_000_000);
}
