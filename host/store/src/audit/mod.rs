//! The audit trail: append-only records, each written in the transaction of the change that it records.

pub mod archive;
pub(crate) mod sql;

use domain::engine_event::EngineEvent;
use domain::id::{Digest, EventId, HostId};
use domain::text::{escape, escape_lines};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::audit::sql as audit_sql;
use crate::db::{Portions, Row, Tx, args, row};
use crate::error::StoreError;
use crate::store::Store;

pub struct Entry<'a> {
    pub actor: &'a str,
    pub action: &'a str,
    pub job: Option<&'a str>,
    /// An item's key, a run's id or a plugin's name.
    pub subject: &'a str,
    pub detail: &'a str,
}

/// The actions of all audit records that the host writes. Records of plugins have actions of their own, and
/// their job as the actor.
pub const KINDS: &[&str] = &[
    "abandoned_manually",
    "alert_acknowledged",
    "alerts_removed",
    "audit_archived",
    "batch_added",
    "batch_processed",
    "config_refused",
    "config_taken",
    "events_redriven",
    "events_taken",
    "give_up",
    "history_removed",
    "host_forgotten",
    "host_refused",
    "host_started",
    "item_added",
    "items_added",
    "job_edited",
    "left_to_a_person",
    "lock_released",
    "lock_renewed",
    "lock_taken",
    "lost",
    "paused",
    "plugin_active",
    "plugin_approved",
    "plugin_canary",
    "plugin_canary_began",
    "plugin_pinned",
    "plugin_promoted",
    "plugin_quarantined",
    "plugin_rejected",
    "plugin_replayed",
    "plugin_retired",
    "plugin_rolled_back",
    "plugin_taken_out",
    "plugin_unpinned",
    "plugin_uploaded",
    "plugin_waiting",
    "plugin_waits",
    "recovered_manually",
    "resolved_manually",
    "resumed",
    "retried_manually",
    "schedule_rewound",
    "times_corrected",
    "token_added",
    "token_removed",
    "triggered",
];

/// Writes an audit record of the host.
pub(crate) async fn write(tx: &mut Tx, entry: &Entry<'_>, now: Timestamp) -> Result<(), StoreError> {
    #[cfg(test)]
    assert!(KINDS.contains(&entry.action), "{} is missing in KINDS and in docs/audit.md", entry.action);
    let mut records = Records::default();
    records.add(entry, now);
    records.write(tx).await?;
    let text = |text: &str| text.to_owned();
    tx.note(EngineEvent::Audited {
        actor: text(entry.actor),
        action: text(entry.action),
        job: entry.job.map(text),
        subject: escape(entry.subject).into_owned(),
    });
    Ok(())
}

/// Audit records of the host or of plugins that are written together, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Records(Portions);

impl Records {
    pub fn add(&mut self, entry: &Entry<'_>, now: Timestamp) {
        let id = EventId::new(now).to_string();
        let (subject, detail) = (escape(entry.subject), escape_lines(entry.detail));
        self.0.push(row![id, now, entry.actor, entry.action, entry.job, &*subject, &*detail]);
    }

    pub async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        self.0.execute(tx, audit_sql::AUDIT_ADD, "added").await.map(|_| ())
    }
}

/// The unique name of a host as an actor. The configured name of a host may change, or be shared with another
/// host.
pub fn host_actor(host: HostId) -> String {
    format!("host:{host}")
}

/// Replaces a payload in the audit trail. The trail is append-only, and the payload may have to be deleted
/// one day.
pub(crate) fn fingerprint(payload: &str) -> String {
    format!("payload of {}", digest_of(payload))
}

/// Replaces the payloads of several items: the digest of their digests, one per line.
pub(crate) fn fingerprints(payloads: &[&str]) -> String {
    let bytes: usize = payloads.iter().map(|payload| payload.len()).sum();
    let lines: String = payloads.iter().map(|payload| format!("{}\n", sha256(payload))).collect();
    format!("{} items, payloads of {bytes} bytes, sha256 of their digests {}", payloads.len(), sha256(&lines))
}

/// Replaces the keys and payloads of many items: the digest of the key and the payload of each, both followed by a
/// zero byte, which neither contains.
pub(crate) fn fingerprint_of_items<'a>(items: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let (mut number, mut bytes, mut sha256) = (0, 0, Sha256::new());
    for (key, payload) in items {
        number += 1;
        bytes += payload.len();
        for part in [key.as_bytes(), b"\0", payload.as_bytes(), b"\0"] {
            sha256.update(part);
        }
    }
    let sha256 = Digest(sha256.finalize().into());
    format!("{number} items, payloads of {bytes} bytes, sha256 of keys and payloads {sha256}")
}

/// Length and digest of a text.
pub(crate) fn digest_of(text: &str) -> String {
    format!("{} bytes, sha256 {}", text.len(), sha256(text))
}

fn sha256(text: &str) -> Digest {
    Digest(Sha256::digest(text.as_bytes()).into())
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

/// The audit trail.
#[derive(Clone, Copy)]
pub struct Audit<'a> {
    pub(crate) store: &'a Store,
}

impl Audit<'_> {
    /// Writes an audit record of an action that changes nothing else in the store.
    pub async fn add(self, entry: &Entry<'_>, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        write(&mut tx, entry, now).await?;
        tx.commit().await
    }

    /// Lists audit records, the newest first.
    pub async fn list(self, limit: u32) -> Result<Vec<AuditView>, StoreError> {
        let rows = self.store.db.list(audit_sql::AUDIT_LIST, &args! { limit: limit }).await?;
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
