//! Idempotent requests: a request's changes and its response are stored in one transaction, so a repeated
//! request gets the stored response.

pub(crate) mod sql;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::answers::sql as answers_sql;
use crate::db::{First, RequestTx, Row, args};
use crate::error::StoreError;
use crate::store::Store;

/// How long a response is kept.
pub const RESPONSES_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// A request with its idempotency key. Each actor has its own key space.
#[derive(Debug, Clone, Copy)]
pub struct Keyed<'a> {
    pub actor: &'a str,
    pub key: &'a str,
    /// SHA-256 of the request's content.
    pub sha256: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    pub status: u16,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl StoredResponse {
    /// Only successful responses are stored; any other response means that nothing was changed.
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// The request was carried out now, or refused.
    Now(StoredResponse),
    /// The request was carried out before.
    Before(StoredResponse),
    /// The key was used for another request.
    Other,
    /// The request is being carried out.
    Running,
}

/// Keys of the requests that this process is working on, with their hashes.
pub(crate) type Running = Arc<Mutex<HashMap<(String, String), String>>>;

/// Removes its key when dropped, also when the client disconnects.
struct Entered {
    running: Running,
    key: (String, String),
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Stored responses of idempotent requests.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    pub(crate) store: &'a Store,
}

impl Answers<'_> {
    /// Runs `work` unless the request was carried out before. Its writes are committed together with its
    /// response. If the response is a refusal, nothing is committed.
    pub async fn once(
        self,
        request: Keyed<'_>,
        now: Timestamp,
        work: impl Future<Output = StoredResponse>,
    ) -> Result<Once, StoreError> {
        let _entered = match self.enter(request) {
            Ok(entered) => entered,
            Err(once) => return Ok(once),
        };
        if let Some(known) = self.answered(request, now).await? {
            return Ok(known);
        }
        let args = args! {
            actor: request.actor,
            key: request.key,
            sha256: request.sha256,
            body: Vec::new(),
            now: now,
            kept_since: forgotten(now),
        };
        let whole = RequestTx::new(First { sql: answers_sql::ANSWER_CLAIM, args: args.to_vec() });
        let answer = whole.run(work).await;
        let kept = match whole.refused() || !answer.is_success() {
            true => whole.roll_back().await,
            false => {
                let status = i64::from(answer.status);
                let (location, body) = (answer.location.clone(), answer.body.clone());
                let args = args! {
                    actor: request.actor,
                    key: request.key,
                    status: status,
                    location: location,
                    body: body,
                };
                whole.commit(&self.store.db, answers_sql::ANSWER_PUT, &args).await
            }
        };
        // Checked after the commit too, because the commit opens the transaction if `work` wrote nothing.
        if whole.refused() {
            return Ok(self.answered(request, now).await?.unwrap_or(Once::Running));
        }
        kept?;
        Ok(Once::Now(answer))
    }

    /// Removes responses older than [`RESPONSES_KEPT`].
    pub async fn prune(self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.db.execute(answers_sql::ANSWERS_PRUNE, &args! { kept_since: forgotten(now) }).await
    }

    async fn answered(self, request: Keyed<'_>, now: Timestamp) -> Result<Option<Once>, StoreError> {
        let args = args! { actor: request.actor, key: request.key, kept_since: forgotten(now) };
        let rows = self.store.db.fetch(answers_sql::ANSWER_GET, &args).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        if row.text("request_sha256")? != request.sha256 {
            return Ok(Some(Once::Other));
        }
        answer(row).map(|answer| Some(Once::Before(answer)))
    }

    fn enter(self, request: Keyed<'_>) -> Result<Entered, Once> {
        let key = (request.actor.to_owned(), request.key.to_owned());
        let mut running = self.store.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get(&key) {
            Some(sha256) if sha256 == request.sha256 => Err(Once::Running),
            Some(_) => Err(Once::Other),
            None => {
                running.insert(key.clone(), request.sha256.to_owned());
                Ok(Entered { running: self.store.running.clone(), key })
            }
        }
    }
}

fn forgotten(now: Timestamp) -> Timestamp {
    now.checked_sub(RESPONSES_KEPT).unwrap_or(Timestamp::MIN)
}

fn answer(row: &Row) -> Result<StoredResponse, StoreError> {
    let status = row.count("status")?;
    let status = u16::try_from(status).map_err(|_| StoreError::Corrupt(format!("status {status}")))?;
    Ok(StoredResponse { status, location: row.opt_text("location")?, body: row.blob("body")? })
}
