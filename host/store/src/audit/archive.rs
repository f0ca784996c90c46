//! Archiving of old audit records: they are read, and removed once they are safe in an archive file.

use jiff::Timestamp;

use crate::audit::Audit;
use crate::audit::sql as audit_sql;
use crate::audit::{AuditView, Entry, view, write};
use crate::db::{Row, args};
use crate::error::StoreError;

/// All audit records from before `until`, the oldest first.
#[derive(Debug, Clone)]
pub struct OldRecords {
    pub until: Timestamp,
    pub records: Vec<(String, AuditView)>,
}

/// An archive file that is synced to disk.
#[derive(Debug, Clone)]
pub struct Archive {
    pub file: String,
    pub sha256: String,
    pub until: Timestamp,
    pub records: u64,
}

impl Audit<'_> {
    /// Reads about `limit` of the oldest records from before `cutoff`. Records of the same millisecond are
    /// never split.
    pub async fn old(self, cutoff: Timestamp, limit: u32) -> Result<OldRecords, StoreError> {
        let args = args! { before: cutoff, from: limit.saturating_sub(1) };
        let rows = self.store.db.fetch(audit_sql::AUDIT_OLD_LAST, &args).await?;
        let until = match rows.first() {
            Some(row) => row.int("at_ms")? + 1,
            None => cutoff.as_millisecond(),
        };
        let until = Timestamp::from_millisecond(until).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let rows = self.store.db.fetch(audit_sql::AUDIT_OLD, &args! { before: until }).await?;
        let record = |row: &Row| Ok((row.text("id")?, view(row)?));
        Ok(OldRecords { until, records: rows.iter().map(record).collect::<Result<_, StoreError>>()? })
    }

    /// Removes the records that are in the archive. If the table no longer holds exactly these records
    /// (another host archived them, or a record was added late), it removes nothing and returns `false`.
    pub async fn archived(self, archive: &Archive, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let records = i64::try_from(archive.records).unwrap_or(i64::MAX);
        let (file, sha256) = (archive.file.as_str(), archive.sha256.as_str());
        let args = args! { file: file, until: archive.until, records: records, sha256: sha256, now: now };
        tx.execute(audit_sql::ARCHIVE_ADD, &args).await?;
        let removed = tx.execute(audit_sql::AUDIT_REMOVE, &args! { before: archive.until }).await?;
        if removed != archive.records {
            return Ok(false);
        }
        let detail = format!("{records} records; sha256 {sha256}");
        let entry = Entry {
            actor: self.store.own_actor(),
            action: "audit_archived",
            job: None,
            subject: file,
            detail: &detail,
        };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(true)
    }
}
