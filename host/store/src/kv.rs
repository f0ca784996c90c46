//! The key-value store of a job: what an attempt reads and keeps back, and what is written with its outcome.

use std::collections::BTreeMap;

use domain::scope::Swap;
use jiff::{SignedDuration, Timestamp};

use crate::db::{Db, Tx, args};
use crate::error::StoreError;
use crate::sql::events;

/// A key as it is to be with the attempt's outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvWrite {
    pub bucket: String,
    pub key: String,
    /// Nothing deletes the key.
    pub value: Option<Vec<u8>>,
    /// How long it is kept; it counts from the commit.
    pub ttl: Option<SignedDuration>,
    pub found: Found,
}

/// What the attempt built on: it is still so at the commit, or the attempt is repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Found {
    #[default]
    Anything,
    Nothing,
    Value(Vec<u8>),
}

impl Found {
    fn of(value: Option<Vec<u8>>) -> Found {
        value.map_or(Found::Nothing, Found::Value)
    }
}

/// What one attempt wants written.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<(String, String), KvWrite>);

impl Pending {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The key as this attempt left it, if it did.
    pub fn get(&self, bucket: &str, key: &str) -> Option<&KvWrite> {
        self.0.get(&(bucket.to_owned(), key.to_owned()))
    }

    /// What was found before the first write stays what the attempt built on.
    pub fn put(&mut self, write: KvWrite) {
        let place = (write.bucket.clone(), write.key.clone());
        let found = self.0.get(&place).map_or_else(|| write.found.clone(), |before| before.found.clone());
        self.0.insert(place, KvWrite { found, ..write });
    }

    /// Writes if the key is as expected, in this attempt's eyes: `stored` is what others see.
    pub fn swap(&mut self, bucket: &str, key: &str, swap: Swap, stored: Option<Vec<u8>>) -> bool {
        let before = self.get(bucket, key);
        let seen = before.map_or(&stored, |write| &write.value);
        if *seen != swap.expected {
            return false;
        }
        let found = match before {
            // Built on what it wrote itself.
            Some(before) => before.found.clone(),
            None => Found::of(stored),
        };
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.put(KvWrite { bucket, key, value: swap.value, ttl: swap.ttl, found });
        true
    }

    pub fn take(&mut self) -> Vec<KvWrite> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// Those that hold only if nobody else wrote meanwhile.
    pub fn guarded(&self) -> impl Iterator<Item = &KvWrite> {
        self.0.values().filter(|write| write.found != Found::Anything)
    }
}

/// What others see of a key.
pub(crate) async fn read(
    db: &Db,
    job: &str,
    bucket: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = db.fetch(events::KV_GET, &args![job, bucket, key, now]).await?;
    rows.first().map(|row| row.blob("value")).transpose()
}

/// Whether a guarded write would go through now. The commit decides; this one comes before what cannot be undone.
pub(crate) async fn still_so(db: &Db, job: &str, write: &KvWrite, now: Timestamp) -> Result<(), StoreError> {
    let stored = read(db, job, &write.bucket, &write.key, now).await?;
    if Found::of(stored) == write.found { Ok(()) } else { Err(raced(write)) }
}

pub(crate) async fn write(tx: &mut Tx, job: &str, write: &KvWrite, now: Timestamp) -> Result<(), StoreError> {
    let (bucket, key) = (write.bucket.as_str(), write.key.as_str());
    let expires = write.ttl.map(|ttl| now.checked_add(ttl).unwrap_or(Timestamp::MAX));
    let changed = match (&write.value, &write.found) {
        (Some(value), Found::Anything) => {
            tx.execute(events::KV_PUT, &args![job, bucket, key, value.clone(), now, expires]).await?
        }
        (Some(value), Found::Nothing) => {
            tx.execute(events::KV_ADD, &args![job, bucket, key, value.clone(), now, expires]).await?
        }
        (Some(value), Found::Value(found)) => {
            let args = args![job, bucket, key, value.clone(), now, expires, found.clone()];
            tx.execute(events::KV_CHANGE, &args).await?
        }
        (None, Found::Anything) => {
            tx.execute(events::KV_DELETE, &args![job, bucket, key]).await?;
            1
        }
        (None, Found::Nothing) => {
            // Nothing is to be where nothing was.
            let there = tx.fetch(events::KV_GET, &args![job, bucket, key, now]).await?;
            u64::from(there.is_empty())
        }
        (None, Found::Value(found)) => {
            tx.execute(events::KV_TAKE, &args![job, bucket, key, now, found.clone()]).await?
        }
    };
    if changed == 0 { Err(raced(write)) } else { Ok(()) }
}

fn raced(write: &KvWrite) -> StoreError {
    StoreError::Raced(format!("key {:?} was changed by another attempt meanwhile", write.key))
}
