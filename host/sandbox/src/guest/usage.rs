//! Counts an attempt's use of the host: calls of the scope and of services, also refused ones, and the bytes
//! sent and received.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::effect::Effect;
use domain::failure::{ErrorInfo, HOST_STORE};
use domain::id::EventId;
use domain::plugin::Statement;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::SignedDuration;

#[derive(Debug, Clone, Default)]
pub struct UsageCounter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    bytes: AtomicU64,
    host_failure: Mutex<Option<ErrorInfo>>,
}

impl UsageCounter {
    /// Records a failure of the host. The guest is not to blame for a resulting failure.
    pub fn host_failed(&self, error: ErrorInfo) {
        let mut first = self.0.host_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    }

    pub fn host_failure(&self) -> Option<ErrorInfo> {
        self.0.host_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn call(&self, bytes: usize) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes(bytes);
    }

    pub fn bytes(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn calls_so_far(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub fn bytes_so_far(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// A scope that counts its use.
pub struct Counted {
    scope: Arc<dyn Scope>,
    tally: UsageCounter,
}

impl Counted {
    pub fn new(scope: Arc<dyn Scope>, tally: UsageCounter) -> Counted {
        Counted { scope, tally }
    }
}

impl Counted {
    /// Records an error that the guest sees as an answer, but that is a failure of the host.
    fn noted<T>(&self, answer: Result<T, ScopeError>) -> Result<T, ScopeError> {
        if let Err(ScopeError::Store(why)) = &answer {
            self.tally.host_failed(ErrorInfo::new(HOST_STORE, format!("unavailable: {why}")));
        }
        answer
    }
}

fn weight(values: &[Value]) -> usize {
    values.iter().map(Value::bytes).sum()
}

#[async_trait]
impl Scope for Counted {
    fn held(&self) -> Result<(), ScopeError> {
        self.scope.held()
    }

    fn may_send(&self, method: &str, place: &str) -> Result<(), ScopeError> {
        self.scope.may_send(method, place)
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        self.tally.call(key.len());
        let value = self.noted(self.scope.kv_get(bucket, key).await)?;
        self.tally.bytes(value.as_ref().map_or(0, Vec::len));
        Ok(value)
    }

    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError> {
        self.tally.call(key.len() + value.as_ref().map_or(0, Vec::len));
        self.noted(self.scope.kv_set(bucket, key, value).await)
    }

    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError> {
        self.tally.call(key.len() + value.len());
        self.noted(self.scope.kv_set_for(bucket, key, value, ttl).await)
    }

    async fn kv_compare_and_set(&self, bucket: &str, key: &str, swap: Swap) -> Result<bool, ScopeError> {
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.tally.call(key.len() + bytes(&swap.expected) + bytes(&swap.value));
        self.noted(self.scope.kv_compare_and_set(bucket, key, swap).await)
    }

    async fn kv_keys(&self, bucket: &str, from: u64) -> Result<Keys, ScopeError> {
        self.tally.call(0);
        let keys = self.noted(self.scope.kv_keys(bucket, from).await)?;
        self.tally.bytes(keys.keys.iter().map(String::len).sum());
        Ok(keys)
    }

    async fn sql_query(&self, statement: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError> {
        self.tally.call(weight(&params));
        let rows = self.noted(self.scope.sql_query(statement, params).await)?;
        self.tally.bytes(rows.rows.iter().map(|row| weight(row)).sum());
        Ok(rows)
    }

    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError> {
        self.tally.call(weight(&params));
        self.noted(self.scope.sql_execute(statement, params).await)
    }

    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError> {
        self.tally.call(name.len());
        self.noted(self.scope.lock(name).await)
    }

    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError> {
        self.tally.call(effect.bytes());
        self.noted(self.scope.add(effect).await)
    }
}
