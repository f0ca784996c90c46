//! Recovery of items from lost hosts, one compare-and-set at a time.

use std::collections::BTreeMap;

use domain::engine_event::EngineEvent;
use domain::failure::ErrorInfo;
use domain::id::{HostId, JobName};
use domain::item::{Event, State, next};
use domain::runner::Usage;
use domain::suspect::{Blame, Lost, SUSPECT_CRASHES, judge};
use jiff::Timestamp;

use crate::attempts::row::AttemptRow;
use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::sql as items_sql;
use crate::runs::sql as runs_sql;
use crate::runs::{Ended, count_ended};

/// Maximum lost items that one transaction recovers.
const RECOVER_BATCH: u32 = 500;

/// A recovered item in its new state.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub job: JobName,
    pub key: String,
    pub state: State,
    pub crashes: u32,
}

impl Items<'_> {
    /// Recovers items whose lease expired, and items that `former` (this host before its restart) held. Each
    /// recovery is one row's compare-and-set: an item is never in two places.
    pub async fn recover(
        self,
        former: Option<HostId>,
        crashes_max: impl Fn(&JobName) -> u32,
        now: Timestamp,
    ) -> Result<Vec<Recovered>, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let former = former.map(|host| host.to_string());
        if let Some(host) = &former {
            tx.execute(runs_sql::RUNS_RELEASE_HOST, &args![host.as_str()]).await?;
        }
        let own = self.store.held_claims.without_lease();
        let own = serde_json::to_string(&own).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let rows = tx.fetch(items_sql::ITEMS_LOST, &args![now, former, RECOVER_BATCH, own]).await?;
        let mut recovered = Vec::with_capacity(rows.len());
        for (host, rows) in by_host(&rows)? {
            let lost = |row: &&Row| {
                let job: JobName = row.parse("job")?;
                Ok(Lost { crashes: row.count("crashes")?, crashes_max: crashes_max(&job) })
            };
            let lost: Vec<Lost> = rows.iter().map(lost).collect::<Result<_, StoreError>>()?;
            let suspects = tx.fetch(items_sql::SUSPECTS_OF_HOST, &args![host, SUSPECT_CRASHES]).await?;
            let suspects = suspects.first().map_or(Ok(0), |row| row.count("n"))? as usize;
            for (row, blame) in rows.into_iter().zip(judge(&lost, suspects, now)) {
                recovered.extend(put_back(&mut tx, row, blame, self.store.own_actor(), now).await?);
            }
        }
        tx.commit().await?;
        Ok(recovered)
    }
}

/// Groups lost items by their former host: those ran together.
fn by_host(rows: &[Row]) -> Result<BTreeMap<String, Vec<&Row>>, StoreError> {
    let mut hosts: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        hosts.entry(row.text("host_id")?).or_default().push(row);
    }
    Ok(hosts)
}

async fn put_back(
    tx: &mut Tx,
    row: &Row,
    blame: Blame,
    actor: &str,
    now: Timestamp,
) -> Result<Option<Recovered>, StoreError> {
    let job: JobName = row.parse("job")?;
    let (poisoned, due_at) = match blame {
        Blame::Poison => (true, now),
        Blame::Again(at) => (false, at),
    };
    let event = if poisoned { Event::GiveUp } else { Event::Lost };
    let state = next(State::Running, event).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let (id, epoch, attempt) = (row.text("id")?, row.int("epoch")?, row.text("attempt_id")?);
    let crashes = row.count("crashes")?;
    let error = poisoned.then(|| {
        let text = format!("its host was lost {crashes} times in a row while it ran");
        ErrorInfo::new("poison", text)
    });
    let code = error.as_ref().map(|e| e.code.as_str());
    let message = error.as_ref().map(|e| e.message.as_str());
    let args = args![id.as_str(), epoch, attempt.as_str(), state.as_str(), due_at, code, message, now];
    if tx.execute(items_sql::ITEM_RECOVER, &args).await? != 1 {
        return Ok(None);
    }
    let (key, host) = (row.text("item_key")?, row.text("host_id")?);
    let attempt = AttemptRow {
        item_id: &id,
        epoch,
        attempt_id: &attempt,
        job: job.as_str(),
        key: &key,
        number: row.int("attempts")? + 1,
        verdict: "lost",
        error: error.as_ref(),
        note: None,
        log: "",
        host: &host,
        digest: None,
        run: row.opt_text("run_id")?,
        started_at: row.time("claimed_at_ms")?,
        ended_at: now,
        usage: Usage::default(),
    };
    attempt.add(tx).await?;
    if let Some(run) = row.opt_text("run_id")?.filter(|_| poisoned) {
        // The item gets no further attempt in its run, so the run must not wait for one.
        count_ended(tx, &run, Ended { attempts: 1, failed: 1, at: now }).await?;
    }
    let detail = format!("held by host {host} at epoch {epoch}; crash {crashes} in a row; now {state}");
    let entry =
        Entry { actor, action: event.as_str(), job: Some(job.as_str()), subject: &key, detail: &detail };
    write(tx, &entry, now).await?;
    tx.note(EngineEvent::Recovered { job: job.clone(), key: key.clone() });
    Ok(Some(Recovered { job, key, state, crashes }))
}
