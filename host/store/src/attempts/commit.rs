//! The queue of ended attempts. Many attempts share a transaction (see `ends`), because a durable commit costs the
//! same for one as for hundreds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use domain::alert::FailedAlert;
use domain::effect::Effect;
use domain::id::{Digest, HostId};
use domain::item::{Claimed, Event};
use domain::outcome::Ending;
use domain::runner::Usage;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::attempts::ends::{write_all, write_at_once};
use crate::attempts::kv::KvWrite;
use crate::attempts::scope::OwnTx;
use crate::config::COMMIT_BATCH_MAX;
use crate::db::{Db, WritePriority};
use crate::error::StoreError;
use crate::tasks::{Tasks, message};

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

impl AttemptEnd {
    /// The attempt does not end its item: another one follows, as if there had been none.
    pub fn is_put_back(&self) -> bool {
        self.ending.event == Event::Interrupted
    }
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
    if db.is_postgres() && !ends.iter().any(|end| end.is_put_back()) {
        let mut tx = db.begin_as(WritePriority::Work).await?;
        if let Some(committed) = write_at_once(&mut tx, ends).await? {
            tx.commit().await?;
            return Ok(committed);
        }
        tx.rollback().await?;
    }
    let mut tx = db.begin_as(WritePriority::Work).await?;
    let committed = write_all(&mut tx, ends).await?;
    tx.commit().await?;
    Ok(committed)
}
