//! The only write path of attempts. One transaction writes the new states of the items, their effects, the records of
//! the attempts and the progress of runs: one statement for all attempts of each. An end is fenced twice: its claim
//! exists, and its item has the epoch of the claim.
//!
//! Transactions lock rows in one order, so that they do not deadlock: claims by id, items by id, the
//! rows of effects (see `effects`), runs by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::engine_event::EngineEvent;
use domain::id::{AttemptId, ItemId, RunId};
use domain::item::{Event, State, next};
use domain::outcome::Verdict;

use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::effects;
use crate::attempts::row::{self, AttemptRow};
use crate::attempts::sql as attempts_sql;
use crate::db::sql::Sql;
use crate::db::{IntoArg, Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::items::claims::sql as claims_sql;
use crate::items::places::{AHEAD, Due, Moves, NEW, class};
use crate::runs::{Ended, count_ended};

/// An item as it is before its end, locked.
struct Held {
    state: State,
    attempts: u32,
    run: Option<RunId>,
}

/// Items and epochs of ends.
type Key = (ItemId, i64);

pub(crate) async fn write_all(tx: &mut Tx, ends: &[Arc<AttemptEnd>]) -> Result<Vec<Committed>, StoreError> {
    let claims = lock_claims(tx, ends).await?;
    let held = lock_items(tx, ends, &claims).await?;
    let mut first = BTreeSet::new();
    // Of two ends of one claim, the first counts.
    let (now, others): (Vec<_>, Vec<_>) =
        ends.iter().partition(|end| held.contains_key(&key(end)) && first.insert(key(end)));
    write_items(tx, &now).await?;
    write_attempts(tx, &now).await?;
    write_moves(tx, &now, &held).await?;
    close(tx, &now, &claims).await?;
    effects::write_all(tx, &now).await?;
    let before = written_before(tx, &others).await?;
    note_ends(tx, ends, &first, &before);
    count_runs(tx, &now, &held).await?;
    let applied = |end: &Arc<AttemptEnd>| first.contains(&key(end)) || before.contains(&key(end));
    Ok(ends.iter().map(|end| if applied(end) { Committed::Applied } else { Committed::Stale }).collect())
}

fn key(end: &AttemptEnd) -> Key {
    (end.item.id, end.item.epoch)
}

/// The claims of these ends that still exist, with the number of their open items.
async fn lock_claims(tx: &mut Tx, ends: &[Arc<AttemptEnd>]) -> Result<BTreeMap<AttemptId, i64>, StoreError> {
    let ids: BTreeSet<AttemptId> = ends.iter().map(|end| end.item.attempt_id).collect();
    let asked: Rows = ids.into_iter().map(|id| row![id]).collect();
    let rows = tx.fetch(claims_sql::CLAIMS_LOCK, &args! { asked: asked }).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.int("open_items")?))).collect()
}

/// The items of these claims that are at the epoch of the claim.
async fn lock_items(
    tx: &mut Tx,
    ends: &[Arc<AttemptEnd>],
    claims: &BTreeMap<AttemptId, i64>,
) -> Result<BTreeMap<Key, Held>, StoreError> {
    let claimed = ends.iter().filter(|end| claims.contains_key(&end.item.attempt_id));
    let asked: BTreeSet<Key> = claimed.map(|end| key(end)).collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let asked: Rows = asked.into_iter().map(|(id, epoch)| row![id, epoch]).collect();
    let rows = tx.fetch(claims_sql::ITEMS_LOCK, &args! { asked: asked }).await?;
    let held = |row: &Row| {
        let held = Held {
            state: row.parse("state")?,
            attempts: row.count("attempts")?,
            run: row.opt_parse("run_id")?,
        };
        Ok(((row.parse("id")?, row.int("epoch")?), held))
    };
    rows.iter().map(held).collect()
}

async fn write_items(tx: &mut Tx, ends: &[&Arc<AttemptEnd>]) -> Result<(), StoreError> {
    let (mut ended, mut released) = (Rows::default(), Rows::default());
    for end in ends {
        let AttemptEnd { item, ending, .. } = &***end;
        let code = ending.error.as_ref().map(|e| e.code.as_str());
        let message = ending.error.as_ref().map(|e| e.message.as_str());
        if ending.event == Event::Interrupted {
            released.push(row![item.id, item.epoch, ending.due_at, code, message, end.ended_at]);
            continue;
        }
        let counted = ending.attempts != item.attempts;
        let last = counted.then_some(item.claimed_at);
        ended.push(row![
            item.id,
            item.epoch,
            after(end)?.as_str(),
            ending.due_at,
            ending.attempts,
            ending.deferrals,
            item.series,
            ending.verdict == Verdict::Exhausted,
            ending.note.as_deref(),
            code,
            message,
            item.first_attempt_at.or(last),
            last,
            end.ended_at,
        ]);
    }
    write_set(tx, attempts_sql::ITEMS_END, "ended", ended).await?;
    write_set(tx, attempts_sql::ITEMS_RELEASE, "released", released).await
}

/// Changes one locked row for each row of the set. Another number is a mistake in a statement.
async fn write_set(tx: &mut Tx, sql: Sql, name: &'static str, set: Rows) -> Result<(), StoreError> {
    if set.is_empty() {
        return Ok(());
    }
    let wanted = set.len() as u64;
    let changed = tx.execute(sql, &[(name, set.into_arg())]).await?;
    match changed == wanted {
        true => Ok(()),
        false => Err(StoreError::Corrupt(format!("{changed} of {wanted} locked items could be changed"))),
    }
}

/// The item's state after the end.
fn after(end: &AttemptEnd) -> Result<State, StoreError> {
    next(State::Running, end.ending.event).map_err(|e| StoreError::Corrupt(e.to_string()))
}

async fn write_attempts(tx: &mut Tx, ends: &[&Arc<AttemptEnd>]) -> Result<(), StoreError> {
    row::add(tx, ends.iter().map(|end| attempt_of(end))).await
}

fn attempt_of(end: &AttemptEnd) -> AttemptRow<'_> {
    let AttemptEnd { item, ending, .. } = end;
    AttemptRow {
        item: item.id,
        epoch: item.epoch,
        claim: item.attempt_id,
        job: &item.job,
        number: i64::from(item.number()),
        verdict: ending.verdict.as_str(),
        error: ending.error.as_ref(),
        note: ending.note.as_deref(),
        log: &end.log,
        host: end.host,
        digest: end.digest,
        run: item.run_id,
        started_at: item.claimed_at,
        ended_at: end.ended_at,
        usage: end.usage,
    }
}

async fn write_moves(
    tx: &mut Tx,
    ends: &[&Arc<AttemptEnd>],
    held: &BTreeMap<Key, Held>,
) -> Result<(), StoreError> {
    let mut moves = Moves::default();
    for end in ends {
        let AttemptEnd { item, ending, .. } = &***end;
        let Some(before) = held.get(&key(end)) else { continue };
        let (job, state) = (&item.job, after(end)?);
        let released = ending.event == Event::Interrupted;
        let (priority, attempts) = if released { (AHEAD, before.attempts) } else { (NEW, ending.attempts) };
        moves.place(state, Due { job, priority, at: ending.due_at, item: item.id }, end.ended_at);
        moves.count(job, class(before.state, before.attempts), -1);
        moves.count(job, class(state, attempts), 1);
    }
    moves.write(tx).await
}

/// Takes the ended items off their claims. A claim without open items is removed.
async fn close(
    tx: &mut Tx,
    ends: &[&Arc<AttemptEnd>],
    claims: &BTreeMap<AttemptId, i64>,
) -> Result<(), StoreError> {
    let mut ended: BTreeMap<AttemptId, i64> = BTreeMap::new();
    ends.iter().for_each(|end| *ended.entry(end.item.attempt_id).or_default() += 1);
    let (closed, lowered): (Vec<_>, Vec<_>) =
        ended.into_iter().partition(|(claim, items)| claims.get(claim) == Some(items));
    if !closed.is_empty() {
        let closed: Rows = closed.into_iter().map(|(claim, _)| row![claim]).collect();
        tx.execute(claims_sql::CLAIMS_CLOSE, &args! { closed: closed }).await?;
    }
    if !lowered.is_empty() {
        let ended: Rows = lowered.into_iter().map(|(claim, items)| row![claim, items]).collect();
        tx.execute(claims_sql::CLAIMS_LOWER, &args! { ended: ended }).await?;
    }
    Ok(())
}

async fn written_before(tx: &mut Tx, ends: &[&Arc<AttemptEnd>]) -> Result<BTreeSet<Key>, StoreError> {
    if ends.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked: Rows = ends.iter().map(|end| row![end.item.id, end.item.epoch, end.item.attempt_id]).collect();
    let rows = tx.fetch(attempts_sql::ATTEMPTS_KNOWN, &args! { asked: asked }).await?;
    rows.iter().map(|row| Ok((row.parse("item_id")?, row.int("epoch")?))).collect()
}

/// Counts the ends for the runs that the items belong to now, which may not be those of the claim.
async fn count_runs(
    tx: &mut Tx,
    ends: &[&Arc<AttemptEnd>],
    held: &BTreeMap<Key, Held>,
) -> Result<(), StoreError> {
    let mut progress: BTreeMap<RunId, Ended> = BTreeMap::new();
    for end in ends {
        let run = held.get(&key(end)).and_then(|before| before.run);
        if let Some(run) = run.filter(|_| !end.ending.verdict.is_put_back()) {
            let ended = progress.entry(run).or_default();
            ended.attempts += 1;
            ended.failed += i64::from(end.ending.error.is_some());
            ended.at = ended.at.max(end.ended_at);
        }
    }
    for (run, ended) in progress {
        count_ended(tx, run, ended).await?;
    }
    Ok(())
}

fn note_ends(tx: &mut Tx, ends: &[Arc<AttemptEnd>], now: &BTreeSet<Key>, before: &BTreeSet<Key>) {
    for end in ends {
        let key = key(end);
        if !now.contains(&key) && !before.contains(&key) {
            continue;
        }
        if end.ending.verdict != Verdict::Interrupted {
            let (job, key) = (end.item.job.clone(), end.item.key.clone());
            tx.note(EngineEvent::AttemptEnded { job, key, verdict: end.ending.verdict });
        }
        if before.contains(&key) {
            // The other events of that commit may not have been published.
            tx.note(EngineEvent::Missed);
        }
    }
}
