//! The row of an ended attempt.

use domain::failure::ErrorInfo;
use domain::runner::Usage;
use jiff::Timestamp;

use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::items::sql as items_sql;

pub(crate) struct AttemptRow<'a> {
    pub item_id: &'a str,
    pub epoch: i64,
    pub attempt_id: &'a str,
    pub job: &'a str,
    pub key: &'a str,
    /// The first attempt of a series has number 1.
    pub number: i64,
    pub verdict: &'a str,
    pub error: Option<&'a ErrorInfo>,
    pub note: Option<&'a str>,
    pub log: &'a str,
    pub host: &'a str,
    /// `None` if the host was lost before it reported the version.
    pub digest: Option<String>,
    /// The run that queued the item, unless the attempt is a later one.
    pub run: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub usage: Usage,
}

impl AttemptRow<'_> {
    pub async fn add(self, tx: &mut Tx) -> Result<(), StoreError> {
        let code = self.error.map(|error| error.code.as_str());
        let message = self.error.map(|error| error.message.as_str());
        let Usage { wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes } = self.usage;
        let used = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let args = args![
            self.item_id,
            self.epoch,
            self.attempt_id,
            self.job,
            self.key,
            self.number,
            self.verdict,
            code,
            message,
            self.note,
            self.log,
            self.host,
            self.digest,
            self.started_at,
            self.ended_at,
            used(wall_us),
            used(memory_bytes_max),
            self.run,
            used(cpu_us),
            used(host_calls),
            used(host_bytes),
        ];
        tx.execute(items_sql::ATTEMPT_ADD, &args).await.map(|_| ())
    }
}
