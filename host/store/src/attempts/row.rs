//! The rows of ended attempts.

use domain::failure::ErrorInfo;
use domain::id::{AttemptId, Digest, HostId, ItemId, JobName, RunId};
use domain::runner::Usage;
use jiff::Timestamp;

use crate::attempts::sql as attempts_sql;
use crate::db::{Rows, Tx, args, row};
use crate::error::StoreError;

pub(crate) struct AttemptRow<'a> {
    pub item: ItemId,
    pub epoch: i64,
    pub claim: AttemptId,
    pub job: &'a JobName,
    /// The first attempt of a series has number 1.
    pub number: i64,
    pub verdict: &'a str,
    pub error: Option<&'a ErrorInfo>,
    pub note: Option<&'a str>,
    pub log: &'a str,
    pub host: HostId,
    /// `None` if the host was lost before it reported the version.
    pub digest: Option<Digest>,
    /// The run that queued the item, unless the attempt is a later one.
    pub run: Option<RunId>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub usage: Usage,
}

pub(crate) async fn add<'a>(
    tx: &mut Tx,
    attempts: impl Iterator<Item = AttemptRow<'a>>,
) -> Result<(), StoreError> {
    let used = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let values = |attempt: AttemptRow<'a>| {
        let Usage { wall_us, cpu_us, memory_bytes_max, host_calls, host_bytes } = attempt.usage;
        row![
            attempt.item,
            attempt.epoch,
            attempt.claim,
            attempt.job.as_str(),
            attempt.number,
            attempt.verdict,
            attempt.error.map(|error| error.code.as_str()),
            attempt.error.map(|error| error.message.as_str()),
            attempt.note,
            attempt.log,
            attempt.host,
            attempt.digest.map(|digest| digest.0.to_vec()),
            attempt.started_at,
            attempt.ended_at,
            used(wall_us),
            used(cpu_us),
            used(memory_bytes_max),
            used(host_calls),
            used(host_bytes),
            attempt.run,
        ]
    };
    let ended: Rows = attempts.map(values).collect();
    if ended.is_empty() {
        return Ok(());
    }
    tx.execute(attempts_sql::ATTEMPTS_ADD, &args! { ended: ended }).await.map(|_| ())
}
