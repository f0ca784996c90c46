//! The end of an attempt's scope: its transactions committed or undone, its effects handed over.

use std::time::Duration;

use jiff::SignedDuration;

use super::{AttemptScope, State};
use crate::commit::Effects;
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::kv;
use crate::sql::items;

/// How long the databases wait for the commit of what an attempt wrote.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);
/// What a lease has to last then: the same, and what clocks may differ by.
const LEASE_LEFT_MIN: SignedDuration = SignedDuration::from_secs(6);

/// What an attempt leaves to be written with its outcome.
pub struct Ended {
    pub effects: Effects,
    pub own: Option<OwnTx>,
}

/// What an attempt wrote to the store's own database, not committed yet.
pub struct OwnTx(pub(crate) Tx);

impl AttemptScope {
    /// Commits the open SQL transactions and hands over the effects. The item's own commit follows at
    /// once; if the host dies between the two, the attempt is repeated with the same idempotency key.
    /// `None` says that the item is no longer held: nothing was committed.
    pub async fn end(&self) -> Result<Option<Effects>, StoreError> {
        let Some(Ended { effects, own }) = self.end_but_own().await? else { return Ok(None) };
        if let Some(OwnTx(tx)) = own {
            tx.commit().await?;
        }
        Ok(Some(effects))
    }

    /// The same, but for what was written to the store's own database: its transaction is left open, so that the
    /// item's new state is committed with it ([`Store::end_attempt_with`]).
    pub async fn end_but_own(&self) -> Result<Option<Ended>, StoreError> {
        let mut state = self.state.lock().await;
        state.ended = true;
        let mut open = std::mem::take(&mut state.open);
        state.check_whole()?;
        if !open.is_empty() {
            // From here on the databases themselves end what is not committed soon: the lease outlasts that, so a host
            // that is stopped before its commit cannot commit beside another one.
            for (_, tx) in open.iter_mut().filter(|(name, _)| state.wrote.contains(*name)) {
                tx.commit_within(COMMIT_TIME_MAX).await?;
            }
            if !self.still_held().await? {
                return Ok(None);
            }
            for write in state.kv.guarded() {
                kv::still_so(&self.store.db, self.job.name.as_str(), write, self.now()).await?;
            }
        }
        let is_own = |name: &&String| self.store.datasources.is_own(name) && state.wrote.contains(*name);
        let own = open.keys().find(is_own).cloned().and_then(|name| open.remove(&name)).map(OwnTx);
        for (name, tx) in open {
            tx.commit().await.map_err(|e| explain_commit(&name, e))?;
        }
        Ok(Some(Ended { effects: state.effects(), own }))
    }

    /// Drops what is open: as if the attempt had not happened.
    pub async fn abort(&self) {
        let mut state = self.state.lock().await;
        *state = State { ended: true, ..State::default() };
    }

    /// Whether a statement of it failed only because of transactions of others: then its failure says nothing of the item.
    pub async fn contended(&self) -> Option<String> {
        self.state.lock().await.contended.take()
    }

    /// Whether the item is still this attempt's. If its lease ends too soon, nobody can tell: that is an error.
    async fn still_held(&self) -> Result<bool, StoreError> {
        let Some(item) = &self.item else { return Ok(true) };
        let args = args![item.id.to_string(), item.epoch, item.attempt_id.to_string()];
        let rows = self.store.db.fetch(items::ITEM_HELD, &args).await?;
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
    /// Whether all is there that the attempt believes to have written.
    pub(super) fn check_whole(&self) -> Result<(), StoreError> {
        let Some(name) = self.undone.intersection(&self.wrote).next() else { return Ok(()) };
        let text = "a statement failed after others had written, so all are undone";
        Err(StoreError::Conflict(format!("datasource {name:?}: {text}")))
    }

    pub(super) fn effects(&mut self) -> Effects {
        Effects {
            kv: self.kv.take(),
            events: std::mem::take(&mut self.events),
            alerts: std::mem::take(&mut self.alerts),
            deeds: std::mem::take(&mut self.deeds),
            items: std::mem::take(&mut self.items),
            figures: std::mem::take(&mut self.figures),
        }
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
