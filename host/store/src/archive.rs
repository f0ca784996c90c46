//! The old part of the audit trail on its way into archive files: read, and removed once it is safe elsewhere.

use jiff::Timestamp;

use crate::audit::{AuditView, Entry, view, write};
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::sql::hosts;
use crate::store::Store;

/// Records that end before an instant, all of them, the oldest first.
#[derive(Debug, Clone)]
pub struct OldRecords {
    pub until: Timestamp,
    pub records: Vec<(String, AuditView)>,
}

/// A file that holds records, safe on disk.
#[derive(Debug, Clone)]
pub struct Archive {
    pub file: String,
    pub sha256: String,
    pub until: Timestamp,
    pub records: u64,
}

impl Store {
    /// About `limit` of the oldest records from before `cutoff`; never a part of a millisecond.
    pub async fn audit_old(&self, cutoff: Timestamp, limit: u32) -> Result<OldRecords, StoreError> {
        let rows = self.db.fetch(hosts::AUDIT_OLD_LAST, &args![cutoff, limit.saturating_sub(1)]).await?;
        let until = match rows.first() {
            Some(row) => row.int("at_ms")? + 1,
            None => cutoff.as_millisecond(),
        };
        let until = Timestamp::from_millisecond(until).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let rows = self.db.fetch(hosts::AUDIT_OLD, &args![until]).await?;
        let record = |row: &Row| Ok((row.text("id")?, view(row)?));
        Ok(OldRecords { until, records: rows.iter().map(record).collect::<Result<_, StoreError>>()? })
    }

    /// Removes what lies in the archive. `false` says that the table does not hold just that any more
    /// (another host was faster, or a record came late): then nothing is removed.
    pub async fn audit_archived(&self, archive: &Archive, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let records = i64::try_from(archive.records).unwrap_or(i64::MAX);
        let (file, sha256) = (archive.file.as_str(), archive.sha256.as_str());
        tx.execute(hosts::ARCHIVE_ADD, &args![file, archive.until, records, sha256, now]).await?;
        if tx.execute(hosts::AUDIT_REMOVE, &args![archive.until]).await? != archive.records {
            return Ok(false);
        }
        let detail = format!("{records} records; sha256 {sha256}");
        let entry = Entry {
            actor: self.own_actor(),
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
