//! The view of the host's state for one attempt. The store creates a scope from a claim. The scope answers
//! the guest's reads, buffers its effects and holds its open SQL transactions. If the attempt ends with an
//! outcome, they are committed together with the item's new state. If the scope is dropped, it has no effect.

use async_trait::async_trait;
use jiff::SignedDuration;

use crate::effect::Effect;
use crate::id::EventId;
use crate::plugin::Statement;
pub use crate::scope_error::ScopeError;
pub use crate::value::{Rows, Value};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<String>,
    pub next: Option<u64>,
}

/// A conditional change of a key. `None` as a value means that the key does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    pub expected: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub ttl: Option<SignedDuration>,
}

#[async_trait]
pub trait Scope: Send + Sync {
    /// Fails if the host may no longer act for this attempt. Operations that do not use the scope call this
    /// first. All other methods of the scope check it themselves.
    fn held(&self) -> Result<(), ScopeError>;

    /// Whether a granted request may be sent now. `place` is its origin and path.
    fn may_send(&self, _method: &str, _place: &str) -> Result<(), ScopeError> {
        self.held()
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError>;
    /// `None` as the value deletes the key.
    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError>;
    /// The same with a time to live, which counts from the commit.
    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError>;
    /// Writes if the current value is the expected one, and returns whether it was. The value is checked again
    /// at the commit. If it has changed by then, this attempt has no effect and is repeated.
    async fn kv_compare_and_set(&self, bucket: &str, key: &str, change: Swap) -> Result<bool, ScopeError>;
    async fn kv_keys(&self, bucket: &str, from: u64) -> Result<Keys, ScopeError>;

    async fn sql_query(&self, statement: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError>;
    /// Returns the number of changed rows.
    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError>;

    /// Tries to take a lock until the attempt ends. Returns its fencing token, or `None` while another holder
    /// has it.
    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError>;

    /// Requests an effect, if the job's grants and limits allow it. Returns the id of an event.
    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError>;
}
