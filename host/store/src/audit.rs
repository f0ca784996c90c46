//! Who did what: append-only, written in the transaction of what it tells.

use domain::id::{Digest, EventId};
use domain::text::{escape, escape_lines};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::sql::hosts;
use crate::store::Store;

pub struct Entry<'a> {
    pub actor: &'a str,
    pub action: &'a str,
    pub job: Option<&'a str>,
    /// An item's key, a run's id, a plugin's name.
    pub subject: &'a str,
    pub detail: &'a str,
}

pub(crate) async fn write(tx: &mut Tx, entry: &Entry<'_>, now: Timestamp) -> Result<(), StoreError> {
    let id = EventId::new(now).to_string();
    let (subject, detail) = (escape(entry.subject), escape_lines(entry.detail));
    let args = args![id, now, entry.actor, entry.action, entry.job, &*subject, &*detail];
    tx.execute(hosts::AUDIT_ADD, &args).await.map(|_| ())
}

/// Stands for a payload in the trail, which cannot forget: its content may have to be removed one day.
pub(crate) fn fingerprint(payload: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(payload.as_bytes()).into();
    format!("payload of {} bytes, sha256 {}", payload.len(), Digest(digest))
}

#[derive(Debug, Clone)]
pub struct AuditView {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub job: Option<String>,
    pub subject: String,
    pub detail: String,
}

impl Store {
    /// Adds an entry for something that changes nothing else in the store.
    pub async fn audit_add(&self, entry: &Entry<'_>, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        write(&mut tx, entry, now).await?;
        tx.commit().await
    }

    /// The newest first.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditView>, StoreError> {
        let rows = self.db.list(hosts::AUDIT_LIST, &args![limit]).await?;
        rows.iter().map(view).collect()
    }
}

pub(crate) fn view(row: &Row) -> Result<AuditView, StoreError> {
    Ok(AuditView {
        at: row.time("at_ms")?,
        actor: row.text("actor")?,
        action: row.text("action")?,
        job: row.opt_text("job")?,
        subject: row.text("subject")?,
        detail: row.text("detail")?,
    })
}
