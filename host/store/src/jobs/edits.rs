//! Job settings that were changed over the API. They override the file until they are cleared.

use domain::id::JobName;
use jiff::Timestamp;

use crate::audit::{Entry, digest_of, write};
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::jobs::Jobs;
use crate::jobs::sql as jobs_sql;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub job: String,
    /// A key of the job's section in the file, such as `retry.base`.
    pub key: String,
    /// The value as JSON.
    pub value: String,
    pub since: Timestamp,
    pub by: String,
}

impl Jobs<'_> {
    /// Lists all edits by job and key.
    pub async fn edits(self) -> Result<Vec<Edit>, StoreError> {
        let edit = |row: &Row| {
            Ok(Edit {
                job: row.text("job")?,
                key: row.text("edit_key")?,
                value: row.text("value")?,
                since: row.time("since_ms")?,
                by: row.text("by_whom")?,
            })
        };
        self.store.db.fetch(jobs_sql::EDITS_LIST, &[]).await?.iter().map(edit).collect()
    }

    /// Sets keys of one job to values, or clears keys without a value; all of them or none.
    pub async fn edit(
        self,
        job: &JobName,
        changes: &[(String, Option<String>)],
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let mut recorded = Vec::new();
        for (key, value) in changes {
            let name = job.as_str();
            match value {
                Some(value) => {
                    let args = args! {
                        job: name,
                        key: key.as_str(),
                        value: value.as_str(),
                        now: now,
                        by: actor,
                    };
                    tx.execute(jobs_sql::EDIT_PUT, &args).await?;
                    recorded.push(match is_of_plugin(key) {
                        true => format!("{key} = a value of {}", digest_of(value)),
                        false => format!("{key} = {value}"),
                    });
                }
                None => {
                    tx.execute(jobs_sql::EDIT_REMOVE, &args! { job: name, key: key.as_str() }).await?;
                    recorded.push(format!("{key} as in the file"));
                }
            }
        }
        let (job, detail) = (job.as_str(), recorded.join("; "));
        let entry = Entry { actor, action: "job_edited", job: Some(job), subject: job, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }
}

/// The configuration of a plugin may contain anything, so the append-only audit trail gets only a digest of
/// it.
fn is_of_plugin(key: &str) -> bool {
    key == "config" || key.starts_with("config.")
}
