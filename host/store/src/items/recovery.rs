//! Recovery of claims of lost hosts.

use std::collections::BTreeMap;

use domain::engine_event::EngineEvent;
use domain::failure::ErrorInfo;
use domain::id::{AttemptId, HostId, ItemId, JobName, RunId};
use domain::item::{Event, State, next};
use domain::runner::Usage;
use domain::suspect::{Blame, Lost, SUSPECT_CRASHES, judge};
use jiff::Timestamp;

use crate::attempts::row::{self, AttemptRow};
use crate::audit::{Entry, write};
use crate::db::sql::{Sql, locking};
use crate::db::{Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::hosts::presence::{HostProcess, has_ended};
use crate::items::Items;
use crate::items::claims::sql as claims_sql;
use crate::items::places::{AHEAD, Due, Moves, class};
use crate::runs::sql as runs_sql;
use crate::runs::{Ended, count_ended};

/// Maximum claims that one transaction recovers. A claim has at most 1,000 items.
const RECOVER_CLAIMS: u32 = 4;

/// Claims whose lease ended before now, or that a former process of a host made. Claims that this process continues
/// without a lease are left alone.
pub(crate) const CLAIMS_LOST: Sql = locking!(
    "SELECT id FROM claim WHERE (lease_until_ms < :now OR host_id = :former) AND id NOT IN (SELECT id FROM @kept(id uuid))
    ORDER BY lease_until_ms LIMIT :limit",
    " FOR UPDATE SKIP LOCKED"
);
/// Items of locked claims, in the order of their ids. The limit, which is never reached, keeps the order.
pub(crate) const ITEMS_LOST: Sql = locking!(
    "SELECT claimed.claim_id, claimed.host_id, claimed.claimed_at_ms, item.id, item.job, item.item_key, item.epoch,
        item.state, item.attempts, item.crashes, item.run_id
    FROM (SELECT * FROM claimed_item WHERE claim_id IN (SELECT id FROM @lost(id uuid)) ORDER BY item_id LIMIT 1000000)
        AS claimed @join(item ON item.id = claimed.item_id) WHERE item.epoch = claimed.epoch",
    " FOR UPDATE OF item"
);
/// Items held by a host whose present crash would be at least the `:crashes`th in a row.
pub(crate) const SUSPECTS_OF_HOST: Sql = Sql::same(
    "SELECT COUNT(*) AS items FROM claimed_item AS claimed @join(item ON item.id = claimed.item_id)
    WHERE item.epoch = claimed.epoch AND claimed.host_id = :host AND item.crashes + 1 >= :crashes",
);
/// Puts items back, due later, or leaves them to a person after too many crashes.
pub(crate) const ITEMS_RECOVER: Sql = Sql::same(
    "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, crashes = item.crashes + 1, priority = 0,
        state = lost.state, due_at_ms = lost.due_at_ms,
        run_id = CASE WHEN lost.state = 'manual_required' THEN NULL ELSE item.run_id END,
        error_code = COALESCE(lost.error_code, item.error_code),
        error_message = COALESCE(lost.error_message, item.error_message), updated_at_ms = :now
    FROM @lost(id uuid, epoch bigint, state text, due_at_ms bigint, error_code text, error_message text)
    @target(item ON item.id = lost.id) AND item.epoch = lost.epoch",
);

/// A recovered item in its new state.
#[derive(Debug, Clone)]
pub struct Recovered {
    pub job: JobName,
    pub key: String,
    pub state: State,
    pub crashes: u32,
}

/// An item of a lost claim.
struct LostItem {
    id: ItemId,
    claim: AttemptId,
    host: HostId,
    claimed_at: Timestamp,
    job: JobName,
    key: String,
    epoch: i64,
    state: State,
    attempts: u32,
    /// With the present one.
    crashes: u32,
    run: Option<RunId>,
}

/// The decision about a lost item.
struct Verdict {
    event: Event,
    state: State,
    due_at: Timestamp,
    error: Option<ErrorInfo>,
}

impl Items<'_> {
    /// Recovers items whose lease expired, and items that `former` (this host before its restart) held. A claim is
    /// recovered by one transaction, so an item is never in two places.
    pub async fn recover(
        self,
        former: Option<HostId>,
        crashes_max: impl Fn(&JobName) -> u32,
        now: Timestamp,
    ) -> Result<Vec<Recovered>, StoreError> {
        Ok(self.recover_lost(former, None, crashes_max, now).await?.unwrap_or_default())
    }

    /// The same for a process of another host that has ended. Returns `None` and changes nothing if it runs after all,
    /// or if the host was started again.
    pub async fn recover_ended(
        self,
        process: &HostProcess,
        crashes_max: impl Fn(&JobName) -> u32,
        now: Timestamp,
    ) -> Result<Option<Vec<Recovered>>, StoreError> {
        self.recover_lost(Some(process.host), Some(process), crashes_max, now).await
    }

    async fn recover_lost(
        self,
        former: Option<HostId>,
        ended: Option<&HostProcess>,
        crashes_max: impl Fn(&JobName) -> u32,
        now: Timestamp,
    ) -> Result<Option<Vec<Recovered>>, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let former = former.map(|host| host.to_string());
        if let Some(host) = &former {
            tx.execute(runs_sql::RUNS_RELEASE_HOST, &args! { host: host.as_str() }).await?;
        }
        let kept: Rows = self.store.held_claims.without_lease().into_iter().map(|id| row![id]).collect();
        let args = args! { now: now, former: former, kept: kept, limit: RECOVER_CLAIMS };
        let rows = tx.fetch(CLAIMS_LOST, &args).await?;
        let claims: Vec<AttemptId> = rows.iter().map(|row| row.parse("id")).collect::<Result<_, _>>()?;
        // Checked after the claims were locked: no later start of the host has made one of them.
        if let Some(process) = ended
            && !has_ended(&mut tx, process.host, process.incarnation).await?
        {
            return Ok(None);
        }
        let mut recovered = Vec::new();
        if !claims.is_empty() {
            let lost: Rows = claims.iter().map(|id| row![*id]).collect();
            let rows = tx.fetch(ITEMS_LOST, &args! { lost: lost.clone() }).await?;
            let items: Vec<LostItem> = rows.iter().map(lost_item).collect::<Result<_, _>>()?;
            let verdicts = judge_all(&mut tx, &items, crashes_max, now).await?;
            recovered = put_back(&mut tx, items, verdicts, self.store.own_actor(), now).await?;
            tx.execute(claims_sql::CLAIMS_CLOSE, &args! { closed: lost }).await?;
        }
        tx.commit().await?;
        Ok(Some(recovered))
    }
}

fn lost_item(row: &Row) -> Result<LostItem, StoreError> {
    Ok(LostItem {
        id: row.parse("id")?,
        claim: row.parse("claim_id")?,
        host: row.parse("host_id")?,
        claimed_at: row.time("claimed_at_ms")?,
        job: row.parse("job")?,
        key: row.text("item_key")?,
        epoch: row.int("epoch")?,
        state: row.parse("state")?,
        attempts: row.count("attempts")?,
        crashes: row.count("crashes")?.saturating_add(1),
        run: row.opt_parse("run_id")?,
    })
}

/// Decides about lost items by their former hosts: the items of a host ran together.
async fn judge_all(
    tx: &mut Tx,
    items: &[LostItem],
    crashes_max: impl Fn(&JobName) -> u32,
    now: Timestamp,
) -> Result<BTreeMap<ItemId, Verdict>, StoreError> {
    let mut hosts: BTreeMap<HostId, Vec<&LostItem>> = BTreeMap::new();
    items.iter().for_each(|item| hosts.entry(item.host).or_default().push(item));
    let mut verdicts = BTreeMap::new();
    for (host, items) in hosts {
        let lost = |item: &&LostItem| Lost { crashes: item.crashes, crashes_max: crashes_max(&item.job) };
        let lost: Vec<Lost> = items.iter().map(lost).collect();
        let args = args! { host: host.to_string(), crashes: SUSPECT_CRASHES };
        let rows = tx.fetch(SUSPECTS_OF_HOST, &args).await?;
        let suspects = rows.first().map_or(Ok(0), |row| row.count("items"))? as usize;
        for (item, blame) in items.into_iter().zip(judge(&lost, suspects, now)) {
            verdicts.insert(item.id, verdict(item, blame, now)?);
        }
    }
    Ok(verdicts)
}

fn verdict(item: &LostItem, blame: Blame, now: Timestamp) -> Result<Verdict, StoreError> {
    let (event, due_at) = match blame {
        Blame::Poison => (Event::GiveUp, now),
        Blame::Again(at) => (Event::Lost, at),
    };
    let state = next(State::Running, event).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let error = (event == Event::GiveUp).then(|| {
        ErrorInfo::new("poison", format!("its host was lost {} times in a row while it ran", item.crashes))
    });
    Ok(Verdict { event, state, due_at, error })
}

async fn put_back(
    tx: &mut Tx,
    items: Vec<LostItem>,
    verdicts: BTreeMap<ItemId, Verdict>,
    actor: &str,
    now: Timestamp,
) -> Result<Vec<Recovered>, StoreError> {
    let judged: Vec<(&LostItem, &Verdict)> =
        items.iter().filter_map(|item| Some((item, verdicts.get(&item.id)?))).collect();
    if judged.is_empty() {
        return Ok(Vec::new());
    }
    write_items(tx, &judged, now).await?;
    row::add(tx, judged.iter().map(|(item, verdict)| attempt_of(item, verdict, now))).await?;
    let mut moves = Moves::default();
    let mut given_up: BTreeMap<RunId, i64> = BTreeMap::new();
    for (item, verdict) in &judged {
        let due = Due { job: &item.job, priority: AHEAD, at: verdict.due_at, item: item.id };
        moves.place(verdict.state, due, now);
        moves.count(&item.job, class(item.state, item.attempts), -1);
        moves.count(&item.job, class(verdict.state, item.attempts), 1);
        if let Some(run) = item.run.filter(|_| verdict.event == Event::GiveUp) {
            *given_up.entry(run).or_default() += 1;
        }
    }
    moves.write(tx).await?;
    for (item, verdict) in &judged {
        record(tx, item, verdict, actor, now).await?;
    }
    for (run, failed) in given_up {
        // These items get no further attempt in their run, so the run must not wait for one.
        count_ended(tx, run, Ended { attempts: failed, failed, at: now }).await?;
    }
    let recovered = |(item, verdict): (&LostItem, &Verdict)| Recovered {
        job: item.job.clone(),
        key: item.key.clone(),
        state: verdict.state,
        crashes: item.crashes,
    };
    Ok(judged.into_iter().map(recovered).collect())
}

async fn write_items(
    tx: &mut Tx,
    judged: &[(&LostItem, &Verdict)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let values = |(item, verdict): &(&LostItem, &Verdict)| {
        let error = verdict.error.as_ref();
        let (code, message) = (error.map(|e| e.code.as_str()), error.map(|e| e.message.as_str()));
        row![item.id, item.epoch, verdict.state.as_str(), verdict.due_at, code, message]
    };
    let lost: Rows = judged.iter().map(values).collect();
    tx.execute(ITEMS_RECOVER, &args! { lost: lost, now: now }).await.map(|_| ())
}

fn attempt_of<'a>(item: &'a LostItem, verdict: &'a Verdict, now: Timestamp) -> AttemptRow<'a> {
    AttemptRow {
        item: item.id,
        epoch: item.epoch,
        claim: item.claim,
        job: &item.job,
        number: i64::from(item.attempts) + 1,
        verdict: "lost",
        error: verdict.error.as_ref(),
        note: None,
        log: "",
        host: item.host,
        digest: None,
        run: item.run,
        started_at: item.claimed_at,
        ended_at: now,
        usage: Usage::default(),
    }
}

async fn record(
    tx: &mut Tx,
    item: &LostItem,
    verdict: &Verdict,
    actor: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let LostItem { host, epoch, crashes, .. } = item;
    let detail =
        format!("held by host {host} at epoch {epoch}; crash {crashes} in a row; now {}", verdict.state);
    let (action, job) = (verdict.event.as_str(), Some(item.job.as_str()));
    let entry = Entry { actor, action, job, subject: &item.key, detail: &detail };
    write(tx, &entry, now).await?;
    tx.note(EngineEvent::Recovered { job: item.job.clone(), key: item.key.clone() });
    Ok(())
}
