//! Decisions of people about items.

use domain::item::{Event, ManualDecision, State, next};
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::items::places::{self, Due, Moves, NEW, class};
use crate::items::sql as items_sql;
use crate::items::{ItemView, Items, item_view};
use crate::runs::{Ended, count_ended};

/// A person's decision about an item.
#[derive(Debug, Clone, Copy)]
pub struct DecisionRequest<'a> {
    pub decision: ManualDecision,
    pub notes: Option<&'a str>,
    pub actor: &'a str,
    /// Refused if the item changed since this version; `None` skips this check.
    pub version: Option<i64>,
}

impl<'a> DecisionRequest<'a> {
    pub fn new(decision: ManualDecision, notes: Option<&'a str>, actor: &'a str) -> DecisionRequest<'a> {
        DecisionRequest { decision, notes, actor, version: None }
    }
}

impl Items<'_> {
    /// Applies a person's decision to one item.
    pub async fn decide(
        self,
        job: &str,
        key: &str,
        decided: DecisionRequest<'_>,
        now: Timestamp,
    ) -> Result<ItemView, StoreError> {
        let DecisionRequest { decision, notes, actor, version: looked_at } = decided;
        let mut tx = self.store.db.begin().await?;
        let before = locked(&mut tx, job, key).await?;
        let event = Event::Manual(decision);
        let state = next(before.state, event).map_err(|e| StoreError::Conflict(e.to_string()))?;
        let restarts = decision == ManualDecision::Retry && before.state.is_end();
        if looked_at.is_some_and(|looked_at| looked_at != before.version) {
            return Err(StoreError::Conflict(format!(
                "item {key:?} is at version {} now: read it again",
                before.version
            )));
        }
        let args = args! {
            item: before.id,
            version: before.version,
            state: state.as_str(),
            now: now,
            notes: notes,
            restarts: restarts,
            actor: actor,
        };
        if tx.execute(items_sql::ITEM_DECIDE, &args).await? != 1 {
            return Err(StoreError::Conflict(format!("item {key:?} changed meanwhile: read it again")));
        }
        moves(&before, state, restarts, now).write(&mut tx).await?;
        if let Some(run) = before.run_id {
            count_ended(&mut tx, run, Ended { attempts: 1, failed: 0, at: now }).await?;
        }
        let detail = format!("{} -> {state}; {}", before.state, notes.unwrap_or("no notes"));
        let entry = Entry { actor, action: event.as_str(), job: Some(job), subject: key, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        self.get(job, key).await?.ok_or_else(|| StoreError::NotFound(format!("item {key:?}")))
    }
}

/// Locks an item and takes it out of `due`, so that no host claims it meanwhile.
async fn locked(tx: &mut Tx, job: &str, key: &str) -> Result<ItemView, StoreError> {
    tx.fetch(items_sql::ITEM_LOCK, &args! { job: job, key: key }).await?;
    let rows = tx.fetch(items_sql::ITEM_GET, &args! { job: job, key: key }).await?;
    let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("item {key:?} of job {job:?}")))?;
    let mut item = item_view(row)?;
    if matches!(item.state, State::Scheduled | State::Awaiting)
        && places::take(tx, &[Due::of(&item.job, row)?]).await?.is_empty()
    {
        item.state = State::Running;
    }
    Ok(item)
}

/// The moves of an item that a person decided on. It is out of `due` already.
fn moves(before: &ItemView, state: State, restarts: bool, now: Timestamp) -> Moves {
    let mut moves = Moves::default();
    if matches!(before.state, State::ManualRequired | State::Abandoned) {
        moves.unpark(before.id);
    }
    moves.place(state, Due { job: &before.job, priority: NEW, at: now, item: before.id }, now);
    moves.count(&before.job, class(before.state, before.attempts), -1);
    moves.count(&before.job, class(state, if restarts { 0 } else { before.attempts }), 1);
    moves
}
