//! The only write path of attempts. One transaction writes the item's new state, the effects, the attempt
//! record and the run's progress, fenced by (epoch, attempt id). Many attempts share a transaction, because a
//! durable commit costs the same for one as for hundreds.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use domain::alert::FailedAlert;
use domain::effect::{self, AuditRecord, Effect};
use domain::engine_event::EngineEvent;
use domain::id::{Digest, HostId, RunId};
use domain::item::{Claimed, Event};
use domain::outcome::{Ending, Verdict};
use domain::runner::Usage;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::attempts::kv::KvWrite;
use crate::attempts::row::AttemptRow;
use crate::attempts::scope::OwnTx;
use crate::config::COMMIT_BATCH_MAX;
use crate::db::{Db, Tx, WritePriority, args};
use crate::error::StoreError;
use crate::events::sql as events_sql;
use crate::items::sql as items_sql;
use crate::runs::{Ended, count_ended};
use crate::tasks::{Tasks, message};
use crate::{alerts, audit};

/// Everything that is written when an attempt ends.
#[derive(Debug)]
pub struct AttemptEnd {
    pub item: Claimed,
    pub ending: Ending,
    pub effects: Effects,
    pub host: HostId,
    /// The alert to raise if this was the item's last attempt.
    pub failed_alert: FailedAlert,
    pub digest: Option<Digest>,
    pub usage: Usage,
    pub log: String,
    pub ended_at: Timestamp,
}

/// Effects of an attempt. They are applied with its outcome or never.
#[derive(Debug, Default)]
pub struct Effects {
    pub kv: Vec<KvWrite>,
    /// In the order of the requests.
    pub requested: Vec<Effect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    Applied,
    /// Another attempt holds the item now: nothing was changed.
    Stale,
}

impl Attempts<'_> {
    pub async fn end(self, end: Arc<AttemptEnd>) -> Result<Committed, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the store is closed".to_owned());
        self.store.committer.queue.send((end, reply)).await.map_err(|_| gone())?;
        // If the same end is sent again after it was written, its attempt id identifies it.
        answer.await.map_err(|_| StoreError::Unavailable("the committer did not answer".to_owned()))?
    }

    /// Commits the end in the transaction in which the attempt wrote to the store's own database: both are
    /// written or neither is. After an error, the result of the commit is unknown. Then send an end of this
    /// attempt with [`Attempts::end`], which recognizes an attempt whose end was written.
    pub async fn end_with(self, own: OwnTx, end: &Arc<AttemptEnd>) -> Result<Committed, StoreError> {
        let OwnTx(mut tx) = own;
        tx.among_own_tables().await?;
        tx.publish_to(&self.store.db.feed);
        let committed = write_all(&mut tx, std::slice::from_ref(end)).await?;
        if committed == [Committed::Applied] {
            tx.commit().await?;
            return Ok(Committed::Applied);
        }
        Ok(Committed::Stale)
    }
}

type Reply = oneshot::Sender<Result<Committed, StoreError>>;
type Request = (Arc<AttemptEnd>, Reply);

/// The name of the committer among the supervised tasks.
pub const COMMITTER: &str = "committer";

pub(crate) struct Committer {
    queue: mpsc::Sender<Request>,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Committer {
    pub fn start(db: Db, tasks: &Tasks) -> Committer {
        let (queue, requests) = mpsc::channel(4 * COMMIT_BATCH_MAX);
        // Outlives a failure: queued ends are committed after the restart.
        let requests = Arc::new(Mutex::new(requests));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || serve(db.clone(), requests.clone(), stopped.clone());
        let task = tokio::spawn(tasks.clone().supervise(COMMITTER, stop.clone(), serve));
        Committer { queue, task: Mutex::new(Some(task)), stop }
    }

    /// Returns when all queued ends are committed.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

async fn serve(db: Db, requests: Arc<Mutex<mpsc::Receiver<Request>>>, stopped: CancellationToken) {
    let mut requests = requests.lock().await;
    let mut batch = Vec::with_capacity(COMMIT_BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            _ = requests.recv_many(&mut batch, COMMIT_BATCH_MAX) => {}
            _ = stopped.cancelled() => requests.close(),
        }
        if batch.is_empty() {
            if requests.is_closed() && requests.is_empty() {
                return;
            }
            continue;
        }
        commit(&db, std::mem::take(&mut batch)).await;
    }
}

/// Commits all ends in one transaction. If that fails, commits each in its own transaction, so that only the
/// bad one fails.
async fn commit(db: &Db, batch: Vec<Request>) {
    let (ends, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    match commit_together(db, &ends).await {
        Ok(committed) => {
            for (reply, committed) in replies.into_iter().zip(committed) {
                let _ = reply.send(Ok(committed));
            }
        }
        Err(error) if ends.len() == 1 => {
            replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
        }
        Err(_) => {
            for (end, reply) in ends.iter().zip(replies) {
                let alone = commit_together(db, std::slice::from_ref(end)).await;
                let _ = reply.send(alone.map(|committed| committed[0]));
            }
        }
    }
}

/// Turns a panic into an error of these ends, so that it does not stop the committer.
async fn commit_together(db: &Db, ends: &[Arc<AttemptEnd>]) -> Result<Vec<Committed>, StoreError> {
    let written = AssertUnwindSafe(commit_all(db, ends)).catch_unwind().await;
    written.unwrap_or_else(|panic| {
        let why = format!("the host panicked while it wrote an outcome: {}", message(panic.as_ref()));
        Err(StoreError::Corrupt(why))
    })
}

async fn commit_all(db: &Db, ends: &[Arc<AttemptEnd>]) -> Result<Vec<Committed>, StoreError> {
    let mut tx = db.begin_as(WritePriority::Work).await?;
    let committed = write_all(&mut tx, ends).await?;
    tx.commit().await?;
    Ok(committed)
}

async fn write_all(tx: &mut Tx, ends: &[Arc<AttemptEnd>]) -> Result<Vec<Committed>, StoreError> {
    let mut committed = Vec::with_capacity(ends.len());
    let mut progress: BTreeMap<RunId, Ended> = BTreeMap::new();
    for end in ends {
        let written = write_end(tx, end).await?;
        if let (Written::Now, Some(run)) = (written, end.item.run_id)
            && !end.ending.verdict.is_put_back()
        {
            count(progress.entry(run).or_default(), end);
        }
        if written != Written::Not && end.ending.verdict != Verdict::Interrupted {
            let (job, key) = (end.item.job.clone(), end.item.key.clone());
            tx.note(EngineEvent::AttemptEnded { job, key, verdict: end.ending.verdict });
        }
        if written == Written::Before {
            // The other events of that commit may not have been published.
            tx.note(EngineEvent::Missed);
        }
        committed.push(if written == Written::Not { Committed::Stale } else { Committed::Applied });
    }
    for (run, ended) in progress {
        count_ended(tx, &run.to_string(), ended).await?;
    }
    Ok(committed)
}

fn count(ended: &mut Ended, end: &AttemptEnd) {
    ended.attempts += 1;
    ended.failed += i64::from(end.ending.error.is_some());
    ended.at = ended.at.max(end.ended_at);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Now,
    /// Written by an earlier commit whose result was lost.
    Before,
    Not,
}

async fn write_end(tx: &mut Tx, end: &AttemptEnd) -> Result<Written, StoreError> {
    if !write_item(tx, end).await? {
        let item = &end.item;
        let args = args![item.id.to_string(), item.epoch, item.attempt_id.to_string()];
        let known = !tx.fetch(items_sql::ATTEMPT_KNOWN, &args).await?.is_empty();
        return Ok(if known { Written::Before } else { Written::Not });
    }
    write_attempt(tx, end).await?;
    write_effects(tx, end).await?;
    if end.ending.event == Event::GiveUp {
        alerts::failed_for_good(tx, end).await?;
    }
    Ok(Written::Now)
}

async fn write_item(tx: &mut Tx, end: &AttemptEnd) -> Result<bool, StoreError> {
    let AttemptEnd { item, ending, .. } = end;
    let state = domain::item::next(domain::item::State::Running, ending.event)
        .map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let (id, attempt) = (item.id.to_string(), item.attempt_id.to_string());
    let code = ending.error.as_ref().map(|e| e.code.as_str());
    let message = ending.error.as_ref().map(|e| e.message.as_str());
    let changed = if ending.event == Event::Interrupted {
        let args = args![id, item.epoch, attempt, end.ended_at, ending.due_at, code, message];
        tx.execute(items_sql::ITEM_RELEASE, &args).await?
    } else {
        let counted = ending.attempts != item.attempts;
        let last = counted.then_some(item.claimed_at);
        let first = item.first_attempt_at.or(last);
        let note = ending.note.as_deref();
        let args = args![
            id,
            item.epoch,
            attempt,
            state.as_str(),
            ending.due_at,
            ending.attempts,
            note,
            code,
            message,
            first,
            last,
            end.ended_at,
            item.series,
            i64::from(ending.verdict == Verdict::Exhausted),
            ending.deferrals
        ];
        tx.execute(items_sql::ITEM_END, &args).await?
    };
    Ok(changed == 1)
}

async fn write_attempt(tx: &mut Tx, end: &AttemptEnd) -> Result<(), StoreError> {
    let AttemptEnd { item, ending, .. } = end;
    let row = AttemptRow {
        item_id: &item.id.to_string(),
        epoch: item.epoch,
        attempt_id: &item.attempt_id.to_string(),
        job: item.job.as_str(),
        key: &item.key,
        number: i64::from(item.number()),
        verdict: ending.verdict.as_str(),
        error: ending.error.as_ref(),
        note: ending.note.as_deref(),
        log: &end.log,
        host: &end.host.to_string(),
        digest: end.digest.map(|digest| digest.to_string()),
        run: item.run_id.map(|run| run.to_string()),
        started_at: item.claimed_at,
        ended_at: end.ended_at,
        usage: end.usage,
    };
    row.add(tx).await
}

async fn write_effects(tx: &mut Tx, end: &AttemptEnd) -> Result<(), StoreError> {
    let item = &end.item;
    for write in &end.effects.kv {
        crate::attempts::kv::write(tx, item.job.as_str(), write, end.ended_at).await?;
    }
    let mut items = Vec::new();
    for effect in &end.effects.requested {
        match effect {
            Effect::Event(event) => write_event(tx, end, event).await?,
            Effect::Alert(alert) => alerts::raise(tx, &item.job, alert, end.ended_at).await?,
            Effect::Audit(record) => write_record(tx, end, record).await?,
            Effect::Item(item) => items.push(item),
            // Not stored: the engine records metrics once the commit is known.
            Effect::Metric(_) => {}
        }
    }
    crate::items::enqueue::enqueue(tx, &items, item.job.as_str(), end.ended_at).await.map(|_| ())
}

async fn write_event(tx: &mut Tx, end: &AttemptEnd, event: &effect::Event) -> Result<(), StoreError> {
    let item = &end.item;
    let args = args![
        event.id.to_string(),
        event.seq,
        event.topic.as_str(),
        event.key.as_str(),
        event.payload.as_str(),
        item.job.as_str(),
        item.id.to_string(),
        item.epoch,
        end.ended_at
    ];
    tx.execute(events_sql::EVENT_ADD, &args).await.map(|_| ())
}

async fn write_record(tx: &mut Tx, end: &AttemptEnd, record: &AuditRecord) -> Result<(), StoreError> {
    let AuditRecord { action, subject, detail } = record;
    let job = end.item.job.as_str();
    let actor = format!("job {job}");
    let entry = audit::Entry { actor: &actor, action, job: Some(job), subject, detail };
    audit::write_any(tx, &entry, end.ended_at).await
}
