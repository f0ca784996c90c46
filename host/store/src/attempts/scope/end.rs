//! The end of an attempt's scope: it commits or undoes its transactions and returns its effects.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::{AttemptScope, State};
use crate::attempts::commit::Effects;
use crate::attempts::kv;
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::items::claims::sql as claims_sql;

/// How long a database waits for the commit of an attempt's writes before it rolls them back.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);
/// Minimum time that the lease must last then: the same, plus the tolerated difference of clocks.
const LEASE_LEFT_MIN: SignedDuration = SignedDuration::from_secs(6);

/// The part of an attempt that is written with its outcome.
pub struct Ended {
    pub effects: Effects,
    pub own: Option<OwnTx>,
}

/// Uncommitted writes of an attempt to the store's own database.
pub struct OwnTx(pub(crate) Tx);

impl AttemptScope {
    /// Commits the open SQL transactions and returns the effects. The item's own commit follows at once. If
    /// the host dies between the two, the attempt is repeated with the same idempotency key. Returns `None`
    /// if the item is no longer held: nothing was committed.
    pub async fn end(&self) -> Result<Option<Effects>, StoreError> {
        let Some(Ended { effects, own }) = self.end_but_own().await? else { return Ok(None) };
        if let Some(OwnTx(tx)) = own {
            tx.commit().await?;
        }
        Ok(Some(effects))
    }

    /// The same, except for writes to the store's own database: their transaction stays open, so that the
    /// item's new state is committed with it ([`Attempts::end_with`]).
    pub async fn end_but_own(&self) -> Result<Option<Ended>, StoreError> {
        let mut state = self.state.lock().await;
        state.ended = true;
        let open = std::mem::take(&mut state.open);
        state.check_whole()?;
        if open.is_empty() {
            return Ok(Some(Ended { effects: state.effects(), own: None }));
        }
        // Boxed, because most attempts write no SQL, and the future of each would be much larger.
        Box::pin(self.end_open(&mut state, open)).await
    }

    /// Commits the transactions on other databases.
    async fn end_open(
        &self,
        state: &mut State,
        mut open: BTreeMap<String, Tx>,
    ) -> Result<Option<Ended>, StoreError> {
        // From here on the databases roll back anything that is not committed soon. The lease lasts
        // longer, so a host that is stopped before its commit cannot commit while another host works on
        // the item.
        for (_, tx) in open.iter_mut().filter(|(name, _)| state.wrote.contains(*name)) {
            tx.commit_within(COMMIT_TIME_MAX).await?;
        }
        if !self.still_held().await? {
            return Ok(None);
        }
        for write in state.kv.guarded() {
            kv::still_so(&self.store.db, self.job.name.as_str(), write, self.now()).await?;
        }
        let is_own = |name: &&String| self.store.datasources.is_own(name) && state.wrote.contains(*name);
        let own = open.keys().find(is_own).cloned().and_then(|name| open.remove(&name)).map(OwnTx);
        for (name, tx) in open {
            tx.commit().await.map_err(|e| explain_commit(&name, e))?;
        }
        Ok(Some(Ended { effects: state.effects(), own }))
    }

    /// Drops everything that is open, as if the attempt had not happened.
    pub async fn abort(&self) {
        let mut state = self.state.lock().await;
        *state = State { ended: true, ..State::default() };
    }

    /// The error of a statement that failed only because of other transactions. Such a failure does not
    /// concern the item.
    pub async fn contended(&self) -> Option<String> {
        self.state.lock().await.contended.take()
    }

    /// Whether this attempt still holds the item. Fails if its lease ends too soon to be sure.
    async fn still_held(&self) -> Result<bool, StoreError> {
        let Some(item) = &self.item else { return Ok(true) };
        let args = args! { item: item.id, epoch: item.epoch, claim: item.attempt_id };
        let rows = self.store.db.fetch(claims_sql::CLAIM_HOLDS, &args).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let lasts = row.time("lease_until_ms")?;
        match self.hold.needs(LEASE_LEFT_MIN) {
            Some(needed) if lasts < needed => {
                let text = format!("the lease ends at {lasts}: too soon to commit anything under it");
                Err(StoreError::Unavailable(text))
            }
            _ => Ok(true),
        }
    }
}

impl State {
    /// Checks that no write was undone that the attempt believes to be in place.
    pub(super) fn check_whole(&self) -> Result<(), StoreError> {
        let Some(name) = self.undone.intersection(&self.wrote).next() else { return Ok(()) };
        let text = "a statement failed after others had written, so all are undone";
        Err(StoreError::Conflict(format!("datasource {name:?}: {text}")))
    }

    pub(super) fn effects(&mut self) -> Effects {
        Effects { kv: self.kv.take(), requested: std::mem::take(&mut self.requested) }
    }
}

pub(super) fn explain_commit(datasource: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) => {
            StoreError::Conflict(format!("datasource {datasource:?} refused the commit: {why}"))
        }
        StoreError::Busy(why) => StoreError::Busy(format!("datasource {datasource:?}: {why}")),
        error => StoreError::Unavailable(format!("datasource {datasource:?}: {error}")),
    }
}
