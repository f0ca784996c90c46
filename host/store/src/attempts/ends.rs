//! The only write path of attempts. One transaction writes the new states of the items, their effects, the records of
//! the attempts and the progress of runs: one statement for all attempts of each. An end is fenced twice: its claim
//! exists, and its item has the epoch of the claim.
//!
//! Transactions lock rows in one order, so that they do not deadlock: claims by id, items by id, the
//! rows of effects (see `effects`), runs by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domain::engine_event::EngineEvent;
use domain::id::{AttemptId, ItemId, JobName, RunId};
use domain::item::{Event, State, next};
use domain::outcome::Verdict;

use crate::attempts::commit::{AttemptEnd, Committed};
use crate::attempts::effects;
use crate::attempts::row::{self, AttemptRow};
use crate::attempts::sql as attempts_sql;
use crate::db::sql::Sql;
use crate::db::{Arg, IntoArg, Row, Rows, Tx, args, row};
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

/// Ends of items that were the same before.
struct Before {
    job: JobName,
    state: State,
    attempts: u32,
    run: Option<RunId>,
    ended: Ended,
}

/// Items and epochs of ends.
type Key = (ItemId, i64);
type Claims = BTreeMap<AttemptId, i64>;

/// Writes the ends whose claims and items can still be locked.
pub(crate) async fn write_all(tx: &mut Tx, ends: &[Arc<AttemptEnd>]) -> Result<Vec<Committed>, StoreError> {
    let claims = lock_claims(tx, ends).await?;
    let held = lock_items(tx, ends, &claims).await?;
    let (now, others) = split(ends, |end| held.contains_key(&key(end)));
    write_items(tx, &now).await?;
    let before = now.iter().filter_map(|end| Some(held.get(&key(end))?.before(end))).collect();
    write_rest(tx, ends, Written { now, before, others }, &claims).await
}

/// Like [`write_all`] for attempts that are not put back, but locks each item when it changes it, and not before: one
/// pass fewer over the items. Returns `None` if an item was changed meanwhile. Then roll back, and use `write_all`.
pub(crate) async fn write_at_once(
    tx: &mut Tx,
    ends: &[Arc<AttemptEnd>],
) -> Result<Option<Vec<Committed>>, StoreError> {
    let claims = lock_claims(tx, ends).await?;
    let (now, others) = split(ends, |end| claims.contains_key(&end.item.attempt_id));
    let before = end_items(tx, &now).await?;
    let ended: i64 = before.iter().map(|before| before.ended.attempts).sum();
    if usize::try_from(ended) != Ok(now.len()) {
        return Ok(None);
    }
    write_rest(tx, ends, Written { now, before, others }, &claims).await.map(Some)
}

async fn end_items(tx: &mut Tx, ends: &[&Arc<AttemptEnd>]) -> Result<Vec<Before>, StoreError> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    // All transactions lock items in the order of their ids.
    let ordered: BTreeMap<Key, &AttemptEnd> = ends.iter().map(|end| (key(end), &***end)).collect();
    let rows = ordered.into_values().map(ended_row).collect::<Result<Rows, _>>()?;
    let before = tx.fetch(attempts_sql::ITEMS_END_AT_ONCE, &args! { ended: rows }).await?;
    before.iter().map(Before::of).collect()
}

/// The first end of each claim and item that passes the check, and all others.
fn split(
    ends: &[Arc<AttemptEnd>],
    check: impl Fn(&AttemptEnd) -> bool,
) -> (Vec<&Arc<AttemptEnd>>, Vec<&Arc<AttemptEnd>>) {
    let mut first = BTreeSet::new();
    ends.iter().partition(|end| check(end) && first.insert(key(end)))
}

/// Ends after the write of their items.
struct Written<'a> {
    now: Vec<&'a Arc<AttemptEnd>>,
    before: Vec<Before>,
    others: Vec<&'a Arc<AttemptEnd>>,
}

async fn write_rest(
    tx: &mut Tx,
    ends: &[Arc<AttemptEnd>],
    Written { now, before, others }: Written<'_>,
    claims: &Claims,
) -> Result<Vec<Committed>, StoreError> {
    write_attempts(tx, &now).await?;
    write_moves(tx, &now, &before).await?;
    close(tx, &now, claims).await?;
    effects::write_all(tx, &now).await?;
    let first: BTreeSet<Key> = now.iter().map(|end| key(end)).collect();
    let earlier = written_before(tx, &others).await?;
    note_ends(tx, ends, &first, &earlier);
    count_runs(tx, before).await?;
    let applied = |end: &Arc<AttemptEnd>| first.contains(&key(end)) || earlier.contains(&key(end));
    Ok(ends.iter().map(|end| if applied(end) { Committed::Applied } else { Committed::Stale }).collect())
}

impl Held {
    fn before(&self, end: &AttemptEnd) -> Before {
        let Held { state, attempts, run } = *self;
        let failed = i64::from(end.ending.error.is_some());
        // An attempt that is put back does not count for its run.
        let run = run.filter(|_| !end.ending.verdict.is_put_back());
        let ended = Ended { attempts: 1, failed, at: end.ended_at };
        Before { job: end.item.job.clone(), state, attempts, run, ended }
    }
}

impl Before {
    fn of(row: &Row) -> Result<Before, StoreError> {
        Ok(Before {
            job: row.parse("job")?,
            state: row.parse("state")?,
            attempts: row.count("attempts")?,
            run: row.opt_parse("run_id")?,
            ended: Ended {
                attempts: row.int("ends")?,
                failed: row.int("failed")?,
                at: row.time("last_at_ms")?,
            },
        })
    }
}

fn key(end: &AttemptEnd) -> Key {
    (end.item.id, end.item.epoch)
}

/// The claims of these ends that still exist, with the number of their open items.
async fn lock_claims(tx: &mut Tx, ends: &[Arc<AttemptEnd>]) -> Result<Claims, StoreError> {
    let ids: BTreeSet<AttemptId> = ends.iter().map(|end| end.item.attempt_id).collect();
    let asked: Rows = ids.into_iter().map(|id| row![id]).collect();
    let rows = tx.fetch(claims_sql::CLAIMS_LOCK, &args! { asked: asked }).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.int("open_items")?))).collect()
}

/// The items of these claims that are at the epoch of the claim.
async fn lock_items(
    tx: &mut Tx,
    ends: &[Arc<AttemptEnd>],
    claims: &Claims,
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
        if end.is_put_back() {
            released.push(row![item.id, item.epoch, ending.due_at, code, message, end.ended_at]);
            continue;
        }
        ended.push(ended_row(end)?);
    }
    write_set(tx, attempts_sql::ITEMS_END, "ended", ended).await?;
    write_set(tx, attempts_sql::ITEMS_RELEASE, "released", released).await
}

fn ended_row(end: &AttemptEnd) -> Result<[Arg; 14], StoreError> {
    let AttemptEnd { item, ending, .. } = end;
    let counted = ending.attempts != item.attempts;
    let last = counted.then_some(item.claimed_at);
    Ok(row![
        item.id,
        item.epoch,
        after(end)?.as_str(),
        ending.due_at,
        ending.attempts,
        ending.deferrals,
        item.series,
        ending.verdict == Verdict::Exhausted,
        ending.note.as_deref(),
        ending.error.as_ref().map(|e| e.code.as_str()),
        ending.error.as_ref().map(|e| e.message.as_str()),
        item.first_attempt_at.or(last),
        last,
        end.ended_at,
    ])
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

async fn write_moves(tx: &mut Tx, ends: &[&Arc<AttemptEnd>], before: &[Before]) -> Result<(), StoreError> {
    let mut moves = Moves::default();
    for Before { job, state, attempts, ended, .. } in before {
        moves.count(job, class(*state, *attempts), -ended.attempts);
    }
    for end in ends {
        let AttemptEnd { item, ending, .. } = &***end;
        let (job, state) = (&item.job, after(end)?);
        // A release does not change the number of attempts.
        let released = ending.event == Event::Interrupted;
        let (priority, attempts) = if released { (AHEAD, item.attempts) } else { (NEW, ending.attempts) };
        moves.place(state, Due { job, priority, at: ending.due_at, item: item.id }, end.ended_at);
        moves.count(job, class(state, attempts), 1);
    }
    moves.write(tx).await
}

/// Takes the ended items off their claims. A claim without open items is removed.
async fn close(tx: &mut Tx, ends: &[&Arc<AttemptEnd>], claims: &Claims) -> Result<(), StoreError> {
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
async fn count_runs(tx: &mut Tx, before: Vec<Before>) -> Result<(), StoreError> {
    let mut progress: BTreeMap<RunId, Ended> = BTreeMap::new();
    for Before { run, ended, .. } in before {
        if let Some(run) = run {
            let all = progress.entry(run).or_default();
            all.attempts += ended.attempts;
            all.failed += ended.failed;
            all.at = all.at.max(ended.at);
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
