//! Named locks, each with a token that only grows. An attempt's lock needs no renewal of its own: it is held for as long
//! as the attempt holds its item, and is free in the statement that ends the attempt or takes its item away.

use domain::item::Claimed;
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::sql::{items, locks};
use crate::store::Store;

/// A lock that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub name: String,
    pub token: i64,
    /// For people.
    pub holder: String,
    pub taken_at: Timestamp,
    /// None for an attempt's: it ends with the attempt.
    pub until: Option<Timestamp>,
    /// Item and attempt: what was claimed together has one attempt's id.
    attempt: Option<(String, String)>,
}

/// What became of a try to take a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    Token(i64),
    /// By somebody else.
    Held(Lock),
}

impl Store {
    /// For an attempt, as long as it holds its item. Nothing says that it does not any more.
    pub async fn take_lock_for(
        &self,
        item: &Claimed,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Taken>, StoreError> {
        let (id, attempt) = (item.id.to_string(), item.attempt_id.to_string());
        let mut tx = open(self, name, now).await?;
        let held = args![id.clone(), item.epoch, attempt.clone()];
        if tx.fetch(items::ITEM_HELD, &held).await?.is_empty() {
            return Ok(None);
        }
        let holder = format!("job {}, item {}", item.job, item.key);
        let until = Option::<Timestamp>::None;
        let args = args![name, now, id.clone(), item.epoch, attempt.clone(), until, holder.as_str()];
        let taken = match token(&tx.fetch(locks::LOCK_TAKE, &args).await?)? {
            Some(token) => Taken::Token(token),
            None => match see(&mut tx, name, now).await? {
                lock if lock.attempt == Some((id, attempt)) => Taken::Token(lock.token),
                lock => Taken::Held(lock),
            },
        };
        tx.commit().await?;
        Ok(Some(taken))
    }

    /// The token that whoever takes the lock next would get.
    pub(crate) async fn next_lock_token(&self, name: &str) -> Result<u64, StoreError> {
        let rows = self.db.fetch(locks::LOCK_NEXT, &args![name]).await?;
        Ok(token(&rows)?.and_then(|token| u64::try_from(token).ok()).unwrap_or_default())
    }

    /// For somebody outside, until a time.
    pub async fn take_lock(
        &self,
        name: &str,
        holder: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let mut tx = open(self, name, now).await?;
        let nobody = Option::<String>::None;
        let args = args![name, now, nobody.clone(), Option::<i64>::None, nobody, until, holder];
        let Some(token) = token(&tx.fetch(locks::LOCK_TAKE, &args).await?)? else {
            return Ok(Taken::Held(see(&mut tx, name, now).await?));
        };
        let detail = format!("token {token}, until {until:.0}");
        told(&mut tx, holder, "lock_taken", name, &detail, now).await?;
        tx.commit().await?;
        Ok(Taken::Token(token))
    }

    /// Whether it was still held under this token.
    pub async fn renew_lock(
        &self,
        name: &str,
        token: i64,
        until: Timestamp,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let renewed = !tx.fetch(locks::LOCK_RENEW, &args![name, now, token, until]).await?.is_empty();
        if renewed {
            let detail = format!("token {token}, until {until:.0}");
            told(&mut tx, actor, "lock_renewed", name, &detail, now).await?;
        }
        tx.commit().await?;
        Ok(renewed)
    }

    /// Gives back a lock that was taken until a time; without a token, whoever holds it. An attempt's lock ends with
    /// the attempt only: what it did under the lock is not committed before.
    pub async fn release_lock(
        &self,
        name: &str,
        held_under: Option<i64>,
        actor: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let freed = token(&tx.fetch(locks::LOCK_FREE, &args![name, now, held_under]).await?)?;
        if let Some(token) = freed {
            told(&mut tx, actor, "lock_released", name, &format!("token {token}"), now).await?;
        }
        tx.commit().await?;
        Ok(freed.is_some())
    }

    /// Who holds a lock now.
    pub async fn lock(&self, name: &str, now: Timestamp) -> Result<Option<Lock>, StoreError> {
        self.db.fetch(locks::LOCK_SEE, &args![name, now]).await?.first().map(lock).transpose()
    }

    /// Those that are held, in the order of their names, after a name.
    pub async fn locks(&self, after: &str, now: Timestamp, limit: u32) -> Result<Vec<Lock>, StoreError> {
        self.db.fetch(locks::LOCKS_HELD, &args![after, now, limit]).await?.iter().map(lock).collect()
    }

    /// Forgets locks that nobody took for long, and keys whose time is over; answers how many rows.
    pub async fn prune_locks_and_keys(&self, before: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(locks::LOCKS_FLOOR, &args![before, now]).await?;
        let forgotten = tx.execute(locks::LOCKS_FORGET, &args![before, now]).await?;
        let expired = tx.execute(crate::sql::events::KV_EXPIRED, &args![now]).await?;
        tx.commit().await?;
        Ok(forgotten + expired)
    }
}

/// A transaction in which nobody else decides about this lock.
async fn open(store: &Store, name: &str, now: Timestamp) -> Result<Tx, StoreError> {
    let mut tx = store.db.begin().await?;
    tx.execute(locks::LOCK_OPEN, &args![name, now]).await?;
    tx.fetch(locks::LOCK_ROW, &args![name]).await?;
    Ok(tx)
}

fn token(rows: &[Row]) -> Result<Option<i64>, StoreError> {
    rows.first().map(|row| row.int("token")).transpose()
}

async fn see(tx: &mut Tx, name: &str, now: Timestamp) -> Result<Lock, StoreError> {
    let rows = tx.fetch(locks::LOCK_SEE, &args![name, now]).await?;
    let row =
        rows.first().ok_or_else(|| StoreError::Unavailable("a lock changed hands; try again".to_owned()))?;
    lock(row)
}

fn lock(row: &Row) -> Result<Lock, StoreError> {
    Ok(Lock {
        name: row.text("name")?,
        token: row.int("token")?,
        holder: row.text("holder")?,
        taken_at: row.time("taken_at_ms")?,
        until: row.opt_time("until_ms")?,
        attempt: row.opt_text("item_id")?.zip(row.opt_text("attempt_id")?),
    })
}

async fn told(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    lock: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    write(tx, &Entry { actor, action, job: None, subject: lock, detail }, now).await
}
