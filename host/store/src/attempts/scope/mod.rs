//! The scope of one attempt: it checks grants, serves reads, buffers effects and holds SQL transactions open.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use domain::bounds::{check_count, check_key};
use domain::effect::{Effect, NewItem};
use domain::id::EventId;
use domain::item::Claimed;
use domain::job::{Capability, JobSpec};
use domain::lease::Hold;
use domain::lock::check_name;
use domain::plugin::Statement;
use domain::scope::{Keys, Rows, Scope, ScopeError, Swap, Value};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, MutexGuard};

use crate::attempts::kv::{self, KvWrite, Pending, Precondition};
use crate::attempts::locks::LockResult;
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::events::sql as events_sql;
use crate::store::Store;

mod end;
mod replay;
mod sql;

pub use self::end::{Ended, OwnTx};
pub use self::replay::{Asked, HELD_MAX, ReplayScope, Request, SqlWrite};
use self::sql::StatementResult;

pub struct AttemptScope {
    store: Arc<Store>,
    job: Arc<JobSpec>,
    /// `None` for a discovery: it can read, and its writes are dropped.
    item: Option<Claimed>,
    now: Timestamp,
    hold: Hold,
    /// Set for a replay: it takes nothing from working attempts, and is always rolled back.
    replayed: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kv: Pending,
    /// In the order of the requests.
    requested: Vec<Effect>,
    /// The number of requested effects of each kind.
    counts: HashMap<Discriminant<Effect>, usize>,
    locks: BTreeSet<String>,
    open: BTreeMap<String, Tx>,
    /// Datasources that were written to, and those whose transaction was undone by a failed statement.
    wrote: BTreeSet<String>,
    undone: BTreeSet<String>,
    /// The error of a statement that conflicted with another transaction in each try.
    contended: Option<String>,
    statements: u32,
    bytes: usize,
    /// Set at the end, so that no call can follow it.
    ended: bool,
}

/// Orders the events of this process.
static SEQ: AtomicI64 = AtomicI64::new(0);

impl Store {
    pub fn scope_of_attempt(self: &Arc<Self>, job: Arc<JobSpec>, item: Claimed, hold: Hold) -> AttemptScope {
        let now = item.claimed_at;
        let (item, replayed) = (Some(item), false);
        AttemptScope { store: self.clone(), job, item, now, hold, replayed, state: Mutex::default() }
    }

    pub fn scope_of_discovery(
        self: &Arc<Self>,
        job: Arc<JobSpec>,
        now: Timestamp,
        hold: Hold,
    ) -> AttemptScope {
        let (item, replayed) = (None, false);
        AttemptScope { store: self.clone(), job, item, now, hold, replayed, state: Mutex::default() }
    }
}

impl AttemptScope {
    fn check_open(&self, state: &State) -> Result<(), ScopeError> {
        if state.ended {
            return Err(ScopeError::Denied("the attempt has ended".to_owned()));
        }
        self.held()
    }

    fn now(&self) -> Timestamp {
        self.hold.now().unwrap_or(self.now)
    }

    /// The committed value of a key.
    async fn stored(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        let job = self.job.name.as_str();
        kv::read(&self.store.db, job, bucket, key, self.now()).await.map_err(unavailable)
    }

    /// Whether there is room in the store. If the store is unreachable, the answer is yes: the attempt need
    /// not fail for that, since it ends only when the store is back. Discoveries and replays store nothing
    /// and always have room.
    async fn has_room(&self, room: impl Future<Output = Result<bool, StoreError>>) -> bool {
        let keeps = self.item.is_some() && !self.replayed;
        !keeps || room.await.unwrap_or(true)
    }

    async fn check_room_for(&self, item: &NewItem) -> Result<(), ScopeError> {
        let may_add = self.store.may_add(&self.job, &item.job, self.now());
        if self.has_room(may_add).await {
            return Ok(());
        }
        let (to, most) = (&item.job, self.job.limits.items_open);
        let text = format!(
            "job {to} has {most} open items: add more when they are done, or raise limits.items_open"
        );
        Err(ScopeError::Limit(text))
    }

    /// Checks that the value may be written to the key. Returns the locked state.
    async fn writing(
        &self,
        bucket: &str,
        key: &str,
        value: Option<&Vec<u8>>,
    ) -> Result<MutexGuard<'_, State>, ScopeError> {
        self.job.check_granted(Capability::KeyValue)?;
        check_key("a bucket name", bucket)?;
        check_key("a key", key)?;
        let limits = &self.job.limits;
        let bytes = value.map_or(0, Vec::len);
        if bytes > limits.kv_value_bytes {
            let text = format!("a value of {bytes} bytes, at most {}", limits.kv_value_bytes);
            return Err(ScopeError::Limit(text));
        }
        let state = self.state.lock().await;
        self.check_open(&state)?;
        let before = state.kv.get(bucket, key);
        if before.is_none() {
            check_count("keys written", state.kv.len(), limits.kv_keys_per_page)?;
        }
        let is_set = before.is_some_and(|write| write.value.is_some());
        let may_keep = self.store.may_keep(&self.job, bucket, key, self.now());
        if value.is_some() && !is_set && !self.has_room(may_keep).await {
            let (job, most) = (&self.job.name, limits.kv_keys);
            let text = format!("job {job} keeps {most} keys: delete some, or raise limits.kv_keys");
            return Err(ScopeError::Limit(text));
        }
        Ok(state)
    }
}

#[async_trait]
impl Scope for AttemptScope {
    fn held(&self) -> Result<(), ScopeError> {
        if self.hold.is_ours() {
            return Ok(());
        }
        let text = "this host could not renew its lease in time: another one may work on the item";
        Err(ScopeError::Unavailable(text.to_owned()))
    }

    async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, ScopeError> {
        self.job.check_granted(Capability::KeyValue)?;
        check_key("a bucket name", bucket)?;
        check_key("a key", key)?;
        let state = self.state.lock().await;
        self.check_open(&state)?;
        if let Some(write) = state.kv.get(bucket, key) {
            return Ok(write.value.clone());
        }
        self.stored(bucket, key).await
    }

    async fn kv_set(&self, bucket: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), ScopeError> {
        let mut state = self.writing(bucket, key, value.as_ref()).await?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        state.kv.put(KvWrite { bucket, key, value, ..KvWrite::default() });
        Ok(())
    }

    async fn kv_set_for(
        &self,
        bucket: &str,
        key: &str,
        value: Vec<u8>,
        ttl: SignedDuration,
    ) -> Result<(), ScopeError> {
        let value = Some(value);
        let mut state = self.writing(bucket, key, value.as_ref()).await?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        state.kv.put(KvWrite { bucket, key, value, ttl: Some(ttl), found: Precondition::Anything });
        Ok(())
    }

    async fn kv_compare_and_set(&self, bucket: &str, key: &str, swap: Swap) -> Result<bool, ScopeError> {
        let mut state = self.writing(bucket, key, swap.value.as_ref()).await?;
        let stored = match state.kv.get(bucket, key) {
            Some(_) => None,
            None => self.stored(bucket, key).await?,
        };
        Ok(state.kv.swap(bucket, key, swap, stored))
    }

    /// Lists committed keys, without this attempt's own writes.
    async fn kv_keys(&self, bucket: &str, from: u64) -> Result<Keys, ScopeError> {
        self.job.check_granted(Capability::KeyValue)?;
        check_key("a bucket name", bucket)?;
        self.check_open(&*self.state.lock().await)?;
        let page = self.job.limits.kv_keys_per_page;
        let args = args! {
            job: self.job.name.as_str(),
            bucket: bucket,
            limit: i64::try_from(page).unwrap_or(i64::MAX),
            from: i64::try_from(from).unwrap_or(i64::MAX),
            now: self.now(),
        };
        let rows = self.store.db.fetch(events_sql::KV_KEYS, &args).await.map_err(unavailable)?;
        let keys: Result<Vec<_>, _> = rows.iter().map(|row| row.text("kv_key")).collect();
        let keys = keys.map_err(unavailable)?;
        let next = (keys.len() == page).then(|| from.saturating_add(page as u64));
        Ok(Keys { keys, next })
    }

    async fn sql_query(&self, statement: &Statement, params: Vec<Value>) -> Result<Rows, ScopeError> {
        let StatementResult::Rows(rows) = self.run(statement, params, true).await? else {
            return Ok(Rows::default());
        };
        let limits = &self.job.limits;
        if rows.len() > limits.sql_rows {
            let text = format!("the statement answered with more than {} rows", limits.sql_rows);
            return Err(ScopeError::Limit(text));
        }
        let columns = rows.first().map(|row| row.columns().to_vec()).unwrap_or_default();
        let rows: Vec<Vec<Value>> = rows.into_iter().map(crate::db::Row::into_values).collect();
        let bytes: usize = rows.iter().flatten().map(Value::bytes).sum();
        let mut state = self.state.lock().await;
        state.bytes += bytes;
        if state.bytes > limits.sql_bytes {
            let text = format!("an attempt read more than {} bytes", limits.sql_bytes);
            return Err(ScopeError::Limit(text));
        }
        Ok(Rows { columns, rows })
    }

    async fn sql_execute(&self, statement: &Statement, params: Vec<Value>) -> Result<u64, ScopeError> {
        match self.run(statement, params, false).await? {
            StatementResult::Changed(rows) => Ok(rows),
            StatementResult::Rows(_) => Ok(0),
        }
    }

    async fn lock(&self, name: &str) -> Result<Option<u64>, ScopeError> {
        check_key("a lock's name", name)?;
        check_name(name).map_err(|why| ScopeError::Limit(format!("no name of a lock: {why}")))?;
        if !self.job.grants.locks.iter().any(|pattern| pattern.covers(name)) {
            return Err(self.job.not_granted(format!("lock {name:?}")));
        }
        let Some(item) = &self.item else {
            return Err(ScopeError::Denied("a discovery takes no locks".to_owned()));
        };
        let mut state = self.state.lock().await;
        self.check_open(&state)?;
        if !state.locks.contains(name) {
            check_count("locks", state.locks.len(), self.job.limits.locks)?;
        }
        if self.replayed {
            state.locks.insert(name.to_owned());
            return self.store.locks().next_token(name).await.map(Some).map_err(unavailable);
        }
        match self.store.locks().take_for(item, name, self.now()).await.map_err(unavailable)? {
            Some(LockResult::Token(token)) => {
                state.locks.insert(name.to_owned());
                Ok(Some(u64::try_from(token).unwrap_or_default()))
            }
            Some(LockResult::Held(_)) => Ok(None),
            None => Err(ScopeError::Unavailable("another host has the item now".to_owned())),
        }
    }

    async fn add(&self, effect: Effect) -> Result<Option<EventId>, ScopeError> {
        let mut effect = effect.checked(&self.job)?;
        let mut state = self.state.lock().await;
        self.check_open(&state)?;
        let kind = discriminant(&effect);
        let count = state.counts.get(&kind).copied().unwrap_or_default();
        let (kind_name, most) = effect.count_limit(&self.job.limits);
        check_count(kind_name, count, most)?;
        let mut id = None;
        match &mut effect {
            Effect::Event(event) => {
                event.id = EventId::new(self.now);
                event.seq = SEQ.fetch_add(1, Ordering::Relaxed);
                id = Some(event.id);
            }
            Effect::Item(item) => self.check_room_for(item).await?,
            _ => {}
        }
        state.counts.insert(kind, count + 1);
        state.requested.push(effect);
        Ok(id)
    }
}

fn unavailable(error: StoreError) -> ScopeError {
    match error {
        error if error.is_passing() => ScopeError::Store(error.to_string()),
        other => ScopeError::Unavailable(other.to_string()),
    }
}
