//! What the host's state looks like to one attempt. The store makes a scope from a claim; it answers
//! the guest's reads, buffers its effects and holds its open SQL transactions. Ended with an outcome it
//! is committed with the item's new state; dropped, nothing has happened.

use async_trait::async_trait;
use jiff::SignedDuration;

use crate::alert::Alert;
use crate::effect::{Deed, Figure, NewItem};
use crate::id::EventId;
use crate::plugin::Statement;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    /// What it weighs against the limits.
    pub fn bytes(&self) -> usize {
        match self {
            Value::Null | Value::Boolean(_) => 1,
            Value::Integer(_) | Value::Real(_) => 8,
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The job's grants do not allow it.
    #[error("denied: {0}")]
    Denied(String),
    #[error("limit: {0}")]
    Limit(String),
    /// A name or a text that this host never takes: repeated, the call fails again.
    #[error("refused: {0}")]
    Refused(String),
    /// The database refused the statement.
    #[error("database: {0}")]
    Database(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The host's own store did not answer: whatever the attempt makes of it is not its fault.
    #[error("unavailable: {0}")]
    Store(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<String>,
    pub next: Option<u64>,
}

/// A change of a key that depends on what was there; nothing as a value is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    pub expected: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub ttl: Option<SignedDuration>,
}

#[async_trait]
pub trait Scope: Send + Sync {
    /// Whether the host may still act for this attempt. What does not go through the store asks this first; all other
    /// methods ask by themselves.
    fn held(&self) -> Result<(), ScopeError>;

    /// Whether a request that is granted may leave now. `place` is its origin and path.
    fn may_send(&self, _method: &str, _place: &str) -> Result<(), ScopeError> {
        self.held()
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError>;
    /// Nothing as the value deletes the key.
    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError>;
    /// The same for a time only; it counts from the commit.
    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError>;
    /// Writes if the value is what was expected, and says whether it was. It is looked at again with the commit: if
    /// another attempt came between, this one is undone and repeated.
    async fn kv_compare_and_set(&self, bucket: &str, key: &str, change: Swap) -> Result<bool, ScopeError>;
    async fn kv_keys(&self, bucket: &str, from: u64) -> Result<Keys, ScopeError>;

    async fn sql_query(&self, statement: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError>;
    /// Answers with the number of rows that changed.
    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError>;

    /// Tries to take a lock until the attempt ends: its fencing token, or nothing while another holds it.
    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError>;

    async fn publish(&self, topic: &str, key: &str, payload: &str) -> Result<EventId, ScopeError>;
    async fn alert(&self, alert: Alert) -> Result<(), ScopeError>;
    async fn record(&self, deed: Deed) -> Result<(), ScopeError>;
    async fn enqueue(&self, item: NewItem) -> Result<(), ScopeError>;
    async fn measure(&self, figure: Figure) -> Result<(), ScopeError>;
}
