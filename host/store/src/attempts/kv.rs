//! The key-value store of a job: reads and buffered writes of an attempt, and the writes at its commit.

use std::collections::BTreeMap;

use domain::scope::Swap;
use jiff::{SignedDuration, Timestamp};

use crate::db::{Db, Tx, args};
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
    let rows = db.fetch(events_sql::KV_GET, &args![job, bucket, key, now]).await?;
    rows.first().map(|row| row.blob("value")).transpose()
}

/// Checks that a guarded write would succeed now. The commit decides; this check runs before irreversible
/// steps.
pub(crate) async fn still_so(db: &Db, job: &str, write: &KvWrite, now: Timestamp) -> Result<(), StoreError> {
    let stored = read(db, job, &write.bucket, &write.key, now).await?;
    if Precondition::of(stored) == write.found { Ok(()) } else { Err(raced(write)) }
}

pub(crate) async fn write(tx: &mut Tx, job: &str, write: &KvWrite, now: Timestamp) -> Result<(), StoreError> {
    let (bucket, key) = (write.bucket.as_str(), write.key.as_str());
    let expires = write.ttl.map(|ttl| now.checked_add(ttl).unwrap_or(Timestamp::MAX));
    let changed = match (&write.value, &write.found) {
        (Some(value), Precondition::Anything) => {
            tx.execute(events_sql::KV_PUT, &args![job, bucket, key, value.clone(), now, expires]).await?
        }
        (Some(value), Precondition::Nothing) => {
            tx.execute(events_sql::KV_ADD, &args![job, bucket, key, value.clone(), now, expires]).await?
        }
        (Some(value), Precondition::Value(found)) => {
            let args = args![job, bucket, key, value.clone(), now, expires, found.clone()];
            tx.execute(events_sql::KV_CHANGE, &args).await?
        }
        (None, Precondition::Anything) => {
            tx.execute(events_sql::KV_DELETE, &args![job, bucket, key]).await?;
            1
        }
        (None, Precondition::Nothing) => {
            // The key did not exist and must still not exist.
            let there = tx.fetch(events_sql::KV_GET, &args![job, bucket, key, now]).await?;
            u64::from(there.is_empty())
        }
        (None, Precondition::Value(found)) => {
            tx.execute(events_sql::KV_TAKE, &args![job, bucket, key, now, found.clone()]).await?
        }
    };
    if changed == 0 { Err(raced(write)) } else { Ok(()) }
}

fn raced(write: &KvWrite) -> StoreError {
    StoreError::Raced(format!("key {:?} was changed by another attempt meanwhile", write.key))
}
