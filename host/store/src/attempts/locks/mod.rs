//! Named locks with fencing tokens that only increase. An attempt's lock is not renewed separately: it is
//! held as long as the attempt holds its item. The statement that ends the attempt or takes its item away
//! also frees the lock.

pub(crate) mod sql;

use domain::item::Claimed;
use jiff::Timestamp;

use crate::attempts::locks::sql as locks_sql;
use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::events::sql as events_sql;
use crate::items::claims::sql as claims_sql;
use crate::store::Store;

/// A held lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub name: String,
    pub token: i64,
    /// Description of the holder for people.
    pub holder: String,
    pub taken_at: Timestamp,
    /// `None` for an attempt's lock, which ends with the attempt.
    pub until: Option<Timestamp>,
    /// Item id and attempt id. Items that were claimed together share one attempt id.
    attempt: Option<(String, String)>,
}

/// The result of trying to take a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockResult {
    Token(i64),
    /// Held by another holder.
    Held(Lock),
}

/// Named locks of jobs and people.
#[derive(Clone, Copy)]
pub struct Locks<'a> {
    pub(crate) store: &'a Store,
}

impl Locks<'_> {
    /// Takes a lock for an attempt, for as long as it holds its item. Returns `None` if it no longer does.
    pub async fn take_for(
        self,
        item: &Claimed,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<LockResult>, StoreError> {
        let mut tx = open(self.store, name, now).await?;
        let held = args! { item: item.id, epoch: item.epoch, claim: item.attempt_id };
        if tx.fetch(claims_sql::CLAIM_HOLDS, &held).await?.is_empty() {
            return Ok(None);
        }
        let holder = format!("job {}, item {}", item.job, item.key);
        let until = Option::<Timestamp>::None;
        let args = args! {
            name: name,
            now: now,
            item: item.id,
            epoch: item.epoch,
            claim: item.attempt_id,
            until: until,
            holder: holder.as_str(),
        };
        let taken = match token(&tx.fetch(locks_sql::LOCK_TAKE, &args).await?)? {
            Some(token) => LockResult::Token(token),
            None => match see(&mut tx, name, now).await? {
                lock if lock.attempt == Some((item.id.to_string(), item.attempt_id.to_string())) => {
                    LockResult::Token(lock.token)
                }
                lock => LockResult::Held(lock),
            },
        };
        tx.commit().await?;
        Ok(Some(taken))
    }

    /// The token that the next holder of the lock would get.
    pub(crate) async fn next_token(self, name: &str) -> Result<u64, StoreError> {
        let rows = self.store.db.fetch(locks_sql::LOCK_NEXT, &args! { name: name }).await?;
        Ok(token(&rows)?.and_then(|token| u64::try_from(token).ok()).unwrap_or_default())
    }

    /// Takes a lock for an external holder, until a given time.
    pub async fn take(
        self,
        name: &str,
        holder: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<LockResult, StoreError> {
        let mut tx = open(self.store, name, now).await?;
        let nobody = Option::<i64>::None;
        let args = args! {
            name: name,
            now: now,
            item: nobody,
            epoch: nobody,
            claim: nobody,
            until: until,
            holder: holder,
        };
        let Some(token) = token(&tx.fetch(locks_sql::LOCK_TAKE, &args).await?)? else {
            return Ok(LockResult::Held(see(&mut tx, name, now).await?));
        };
        let detail = format!("token {token}, until {until:.0}");
        write_audit(&mut tx, holder, "lock_taken", name, &detail, now).await?;
        tx.commit().await?;
        Ok(LockResult::Token(token))
    }

    /// Renews a lock of an external holder. Returns whether it was still held under this token.
    pub async fn renew(
        self,
        name: &str,
        token: i64,
        until: Timestamp,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let args = args! { name: name, now: now, token: token, until: until };
        let renewed = !tx.fetch(locks_sql::LOCK_RENEW, &args).await?.is_empty();
        if renewed {
            let detail = format!("token {token}, until {until:.0}");
            write_audit(&mut tx, actor, "lock_renewed", name, &detail, now).await?;
        }
        tx.commit().await?;
        Ok(renewed)
    }

    /// Releases a lock of an external holder; without a token, of any such holder. An attempt's lock ends
    /// only with the attempt, because its work under the lock is not committed before.
    pub async fn release(
        self,
        name: &str,
        held_under: Option<i64>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let args = args! { name: name, now: now, token: held_under };
        let freed = token(&tx.fetch(locks_sql::LOCK_FREE, &args).await?)?;
        if let Some(token) = freed {
            write_audit(&mut tx, actor, "lock_released", name, &format!("token {token}"), now).await?;
        }
        tx.commit().await?;
        Ok(freed.is_some())
    }

    /// The lock, if it is held now.
    pub async fn get(self, name: &str, now: Timestamp) -> Result<Option<Lock>, StoreError> {
        self.store
            .db
            .fetch(locks_sql::LOCK_SEE, &args! { name: name, now: now })
            .await?
            .first()
            .map(lock)
            .transpose()
    }

    /// Lists held locks by name, after a given name.
    pub async fn list(self, after: &str, now: Timestamp, limit: u32) -> Result<Vec<Lock>, StoreError> {
        self.store
            .db
            .fetch(locks_sql::LOCKS_HELD, &args! { after: after, now: now, limit: limit })
            .await?
            .iter()
            .map(lock)
            .collect()
    }

    /// Removes locks that were not taken for a long time, and expired keys. Returns the number of rows.
    pub async fn prune(self, before: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.store.db.begin().await?;
        tx.execute(locks_sql::LOCKS_FLOOR, &args! { before: before, now: now }).await?;
        let forgotten = tx.execute(locks_sql::LOCKS_FORGET, &args! { before: before, now: now }).await?;
        let expired = tx.execute(events_sql::KV_EXPIRED, &args! { now: now }).await?;
        tx.commit().await?;
        Ok(forgotten + expired)
    }
}

/// Begins a transaction that excludes other decisions about this lock.
async fn open(store: &Store, name: &str, now: Timestamp) -> Result<Tx, StoreError> {
    let mut tx = store.db.begin().await?;
    tx.execute(locks_sql::LOCK_OPEN, &args! { name: name, now: now }).await?;
    tx.fetch(locks_sql::LOCK_ROW, &args! { name: name }).await?;
    Ok(tx)
}

fn token(rows: &[Row]) -> Result<Option<i64>, StoreError> {
    rows.first().map(|row| row.int("token")).transpose()
}

async fn see(tx: &mut Tx, name: &str, now: Timestamp) -> Result<Lock, StoreError> {
    let rows = tx.fetch(locks_sql::LOCK_SEE, &args! { name: name, now: now }).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Unavailable("the lock has another holder now; try again".to_owned()))?;
    lock(row)
}

fn lock(row: &Row) -> Result<Lock, StoreError> {
    Ok(Lock {
        name: row.text("name")?,
        token: row.int("token")?,
        holder: row.text("holder")?,
        taken_at: row.time("taken_at_ms")?,
        until: row.opt_time("until_ms")?,
        attempt: row.opt_text("item_id")?.zip(row.opt_text("claim_id")?),
    })
}

async fn write_audit(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    lock: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    write(tx, &Entry { actor, action, job: None, subject: lock, detail }, now).await
}
