//! Effects of ended attempts, written in the transaction of their ends: one statement for all events of the
//! transaction, one for all its audit records, and so on. A set of more than a MiB is written in portions.
//!
//! Transactions lock the rows of effects in one order, so that they wait for each other and do not deadlock: keys,
//! whether they exist or not, by job, bucket and key; alerts by job, kind and key; added items as in
//! [`Additions::write`].

use std::sync::Arc;

use domain::effect::{AuditRecord, Effect, Event};
use domain::item;
use jiff::Timestamp;

use crate::alerts::{self, Raised};
use crate::attempts::commit::AttemptEnd;
use crate::attempts::kv::{self, FoldedWrites};
use crate::audit::{Entry, Records};
use crate::db::Tx;
use crate::error::StoreError;
use crate::events::outbox::{NewEvent, NewEvents};
use crate::items::enqueue::Additions;

/// The effects of several attempts, by kind.
#[derive(Default)]
struct Requested<'a> {
    events: NewEvents,
    alerts: Raised<'a>,
    records: Records,
    items: Additions<'a>,
    /// The end of the last attempt that adds items.
    last_at: Option<Timestamp>,
}

/// Writes the effects of these attempts, of which each has an effect or none. Without effects it sends no statement.
pub(crate) async fn write_all(tx: &mut Tx, ends: &[&Arc<AttemptEnd>]) -> Result<(), StoreError> {
    let mut writes = FoldedWrites::default();
    let mut requested = Requested::default();
    for end in ends {
        for write in &end.effects.kv {
            writes.add(&end.item.job, write, end.ended_at)?;
        }
        requested.add(end);
    }
    kv::write_all(tx, writes).await?;
    requested.write(tx).await?;
    let failed = ends.iter().filter(|end| end.ending.event == item::Event::GiveUp);
    let failed: Vec<&AttemptEnd> = failed.map(|end| &***end).collect();
    alerts::failed_for_good(tx, &failed).await
}

impl<'a> Requested<'a> {
    fn add(&mut self, end: &'a AttemptEnd) {
        let (job, now) = (&end.item.job, end.ended_at);
        for effect in &end.effects.requested {
            match effect {
                Effect::Event(event) => self.events.add(event_of(end, event)),
                Effect::Alert(alert) => self.alerts.add(job.as_str(), alert, now),
                Effect::Audit(AuditRecord { action, subject, detail }) => {
                    let (actor, job) = (format!("job {job}"), Some(job.as_str()));
                    self.records.add(&Entry { actor: &actor, action, job, subject, detail }, now);
                }
                Effect::Item(item) => {
                    self.items.add(item, job.as_str(), now);
                    self.last_at = self.last_at.max(Some(now));
                }
                // Not stored: the engine records metrics once the commit is known.
                Effect::Metric(_) => {}
            }
        }
    }

    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        self.events.write(tx).await?;
        self.alerts.write(tx).await?;
        self.records.write(tx).await?;
        match self.last_at {
            Some(now) => self.items.write(tx, now).await.map(|_| ()),
            None => Ok(()),
        }
    }
}

fn event_of<'a>(end: &'a AttemptEnd, event: &'a Event) -> NewEvent<'a> {
    NewEvent {
        id: event.id.to_string(),
        seq: event.seq,
        topic: &event.topic,
        key: &event.key,
        payload: &event.payload,
        job: end.item.job.as_str(),
        item: end.item.id.to_string(),
        epoch: end.item.epoch,
        created_at: end.ended_at,
    }
}
