//! The key-value store of a job: reads and buffered writes of an attempt, and the writes at its commit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::id::JobName;
use domain::scope::Swap;
use jiff::{SignedDuration, Timestamp};

use crate::db::{Arg, Db, IntoArg, Portions, Row, Tx, args, row};
use crate::error::StoreError;
use crate::events::sql as events_sql;

/// A write to a key, committed with the attempt's outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvWrite {
    pub bucket: String,
    pub key: String,
    /// `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// Time to live, counted from the commit.
    pub ttl: Option<SignedDuration>,
    pub found: Precondition,
}

/// The state that the attempt's write is based on. If it changes before the commit, the attempt is repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    #[default]
    Anything,
    Nothing,
    Value(Vec<u8>),
}

impl Precondition {
    fn of(value: Option<Vec<u8>>) -> Precondition {
        value.map_or(Precondition::Nothing, Precondition::Value)
    }

    fn is(&self, value: Option<&Vec<u8>>) -> bool {
        match self {
            Precondition::Anything => true,
            Precondition::Nothing => value.is_none(),
            Precondition::Value(found) => value == Some(found),
        }
    }
}

/// The buffered writes of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<(String, String), KvWrite>);

impl Pending {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// This attempt's own write to the key, if there is one.
    pub fn get(&self, bucket: &str, key: &str) -> Option<&KvWrite> {
        self.0.get(&(bucket.to_owned(), key.to_owned()))
    }

    /// Adds a write. The state that the first write to a key was based on is kept.
    pub fn put(&mut self, write: KvWrite) {
        let place = (write.bucket.clone(), write.key.clone());
        let found = self.0.get(&place).map_or_else(|| write.found.clone(), |before| before.found.clone());
        self.0.insert(place, KvWrite { found, ..write });
    }

    /// Writes if the key has the expected value as this attempt sees it. `stored` is the committed value.
    pub fn swap(&mut self, bucket: &str, key: &str, swap: Swap, stored: Option<Vec<u8>>) -> bool {
        let before = self.get(bucket, key);
        let seen = before.map_or(&stored, |write| &write.value);
        if *seen != swap.expected {
            return false;
        }
        let found = match before {
            // Based on this attempt's own write.
            Some(before) => before.found.clone(),
            None => Precondition::of(stored),
        };
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.put(KvWrite { bucket, key, value: swap.value, ttl: swap.ttl, found });
        true
    }

    pub fn take(&mut self) -> Vec<KvWrite> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// Writes that are only valid if no other attempt wrote to the key meanwhile.
    pub fn guarded(&self) -> impl Iterator<Item = &KvWrite> {
        self.0.values().filter(|write| write.found != Precondition::Anything)
    }
}

/// Reads the committed value of a key.
pub(crate) async fn read(
    db: &Db,
    job: &str,
    bucket: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = db.fetch(events_sql::KV_GET, &args! { job: job, bucket: bucket, key: key, now: now }).await?;
    rows.first().map(|row| row.blob("value")).transpose()
}

/// Checks that a guarded write would succeed now. The commit decides; this check runs before irreversible
/// steps.
pub(crate) async fn still_so(db: &Db, job: &str, write: &KvWrite, now: Timestamp) -> Result<(), StoreError> {
    let stored = read(db, job, &write.bucket, &write.key, now).await?;
    if Precondition::of(stored) == write.found { Ok(()) } else { Err(raced(write)) }
}

/// Job, bucket and key.
type Key = [String; 3];

/// The writes of several attempts, one for each key.
#[derive(Debug, Default)]
pub(crate) struct FoldedWrites<'a>(BTreeMap<Key, Folded<'a>>);

/// The writes to one key: the first one decides what has to be stored, the last one what is stored then.
#[derive(Debug, Clone, Copy)]
struct Folded<'a> {
    first: At<'a>,
    last: At<'a>,
}

/// A write and the time of its commit.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    write: &'a KvWrite,
    now: Timestamp,
}

impl At<'_> {
    fn expires(&self) -> Option<Timestamp> {
        self.write.ttl.map(|ttl| self.now.checked_add(ttl).unwrap_or(Timestamp::MAX))
    }

    /// The value that it leaves, at a later time.
    fn value_at(&self, now: Timestamp) -> Option<&Vec<u8>> {
        self.write.value.as_ref().filter(|_| is_live(self.expires(), now))
    }
}

impl<'a> FoldedWrites<'a> {
    /// Adds a write of the next attempt. Fails if an earlier attempt left another value than it is based on.
    pub fn add(&mut self, job: &JobName, write: &'a KvWrite, now: Timestamp) -> Result<(), StoreError> {
        let last = At { write, now };
        match self.0.entry([job.as_str(), &write.bucket, &write.key].map(str::to_owned)) {
            Entry::Vacant(place) => {
                place.insert(Folded { first: last, last });
            }
            Entry::Occupied(folded) if !write.found.is(folded.get().last.value_at(now)) => {
                return Err(raced(write));
            }
            Entry::Occupied(mut folded) => folded.get_mut().last = last,
        }
        Ok(())
    }
}

/// The row of a locked key.
struct Stored {
    expires: Option<Timestamp>,
    /// Whether its value is the one that the first write is based on.
    is_found: bool,
}

/// Writes all keys, or fails if one of them has another value than its first write is based on.
///
/// The first statement (one for each MiB) inserts new keys and locks existing ones, in the order of keys. So
/// transactions that write the same keys wait for each other and do not deadlock. For a key to delete it inserts an
/// expired row.
pub(crate) async fn write_all(tx: &mut Tx, writes: FoldedWrites<'_>) -> Result<(), StoreError> {
    let FoldedWrites(writes) = writes;
    let mut known = add(tx, &writes).await?;
    let stored = read_locked(tx, &known).await?;
    let (mut put, mut removed) = (Portions::default(), Portions::default());
    for (key, folded) in &writes {
        if !folded.first.may_follow(stored.get(key)) {
            return Err(raced(folded.first.write));
        }
        match row_of(key, folded.last) {
            Some(values) if known.remove(key).is_some() => put.push(values),
            Some(_) => {}
            None => removed.push(key.each_ref().map(|text| text.as_str().into_arg())),
        }
    }
    put.execute(tx, events_sql::KV_PUT, "put").await?;
    removed.execute(tx, events_sql::KV_REMOVE, "removed").await.map(|_| ())
}

/// Inserts the keys that have no row yet. Returns the writes to the others.
async fn add<'a>(
    tx: &mut Tx,
    writes: &BTreeMap<Key, Folded<'a>>,
) -> Result<BTreeMap<Key, Folded<'a>>, StoreError> {
    let mut known = writes.clone();
    let rows =
        writes.iter().map(|(key, folded)| row_of(key, folded.last).unwrap_or_else(|| expired_row(key)));
    for rows in rows.collect::<Portions>() {
        for row in tx.fetch(events_sql::KV_ADD, &args! { added: rows }).await? {
            known.remove(&key_of(&row)?);
        }
    }
    Ok(known)
}

async fn read_locked(
    tx: &mut Tx,
    writes: &BTreeMap<Key, Folded<'_>>,
) -> Result<BTreeMap<Key, Stored>, StoreError> {
    let asked = writes.iter().map(|([job, bucket, key], folded)| {
        let found = match &folded.first.write.found {
            Precondition::Value(value) => Some(value.clone()),
            Precondition::Anything | Precondition::Nothing => None,
        };
        row![job.as_str(), bucket.as_str(), key.as_str(), found]
    });
    let mut stored = BTreeMap::new();
    for asked in asked.collect::<Portions>() {
        for row in tx.fetch(events_sql::KV_FOUND, &args! { asked: asked }).await? {
            let (expires, is_found) = (row.opt_time("expires_at_ms")?, row.int("is_found")? == 1);
            stored.insert(key_of(&row)?, Stored { expires, is_found });
        }
    }
    Ok(stored)
}

impl At<'_> {
    /// Whether the write is still based on what is stored.
    fn may_follow(&self, stored: Option<&Stored>) -> bool {
        let live = stored.filter(|row| is_live(row.expires, self.now));
        match self.write.found {
            Precondition::Anything => true,
            Precondition::Nothing => live.is_none(),
            Precondition::Value(_) => live.is_some_and(|row| row.is_found),
        }
    }
}

/// In the precision of the store.
fn is_live(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_none_or(|at| at.as_millisecond() > now.as_millisecond())
}

fn key_of(row: &Row) -> Result<Key, StoreError> {
    Ok([row.text("job")?, row.text("bucket")?, row.text("kv_key")?])
}

/// The row that a write leaves, unless it deletes the key.
fn row_of([job, bucket, key]: &Key, last: At<'_>) -> Option<[Arg; 6]> {
    let value = last.write.value.clone()?;
    Some(row![job.as_str(), bucket.as_str(), key.as_str(), value, last.now, last.expires()])
}

/// A row that counts as absent.
fn expired_row([job, bucket, key]: &Key) -> [Arg; 6] {
    let (nothing, then) = (Vec::<u8>::new(), Timestamp::UNIX_EPOCH);
    row![job.as_str(), bucket.as_str(), key.as_str(), nothing, then, Some(then)]
}

fn raced(write: &KvWrite) -> StoreError {
    StoreError::Raced(format!("key {:?} was changed by another attempt meanwhile", write.key))
}
