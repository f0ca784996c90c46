//! A job with all grants, and a scope that stores nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use domain::effect::Effect;
use domain::flow::Flow;
use domain::id::EventId;
use domain::job::{Access, Capability, Grants, JobSpec};
use domain::limits::{Limits, MIB};
use domain::origin::Methods;
use domain::plugin::Statement;
use domain::retry::RetryPolicy;
use domain::schedule::Schedule;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::{SignedDuration, Timestamp};

/// A job with every grant and small limits.
pub fn job_with_all(name: &str) -> JobSpec {
    let grants = Grants {
        datasources: BTreeMap::from([("any".to_owned(), Access::ReadWrite)]),
        topics: ["any".to_owned()].into(),
        items: [name.parse().unwrap()].into(),
        http: BTreeMap::from([("http://127.0.0.1:9".parse().unwrap(), Methods::Any)]),
        locks: ["any*".parse().unwrap()].into(),
        capabilities: Capability::ALL.into(),
        ..Grants::default()
    };
    let limits = Limits {
        cpu_time: Duration::from_millis(50),
        wall_time: Duration::from_millis(500),
        memory_bytes: 16 * MIB,
        ..Limits::DEFAULT
    };
    JobSpec {
        name: name.parse().unwrap(),
        plugin: name.parse().unwrap(),
        schedule: Schedule::Manual,
        ticks: Default::default(),
        config: BTreeMap::from([("key".to_owned(), "value".to_owned())]),
        grants,
        limits,
        retry: RetryPolicy::DEFAULT,
        flow: Flow::default(),
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

/// Accepts every call and stores nothing.
pub struct Nothing;

#[async_trait]
impl Scope for Nothing {
    fn held(&self) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_get(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        Ok(Some(vec![0; 16]))
    }

    async fn kv_set(&self, _: &str, _: &str, _: Option<Vec<u8>>) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_set_for(&self, _: &str, _: &str, _: Vec<u8>, _: SignedDuration) -> Result<(), ScopeError> {
        Ok(())
    }

    async fn kv_compare_and_set(&self, _: &str, _: &str, change: Swap) -> Result<bool, ScopeError> {
        Ok(change.expected.is_some())
    }

    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError> {
        Ok((!name.is_empty()).then_some(u64::MAX))
    }

    async fn kv_keys(&self, _: &str, from: u64) -> Result<Keys, ScopeError> {
        Ok(Keys { keys: vec!["key".to_owned(); 3], next: Some(from) })
    }

    async fn sql_query(&self, _: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError> {
        Ok(Rows { columns: vec!["n".to_owned()], rows: vec![params] })
    }

    async fn sql_execute(&self, _: &Statement, _: Vec<Value>) -> Result<u64, ScopeError> {
        Ok(u64::MAX)
    }

    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError> {
        let is_event = matches!(effect, Effect::Event(_));
        Ok(is_event.then(|| EventId::new(Timestamp::UNIX_EPOCH)))
    }
}
