//! Reconciles one page of a discovery with the known items: items are added, refreshed and reopened, within
//! the limits of queued items per run and open items per job. Each kind of change is one statement.

use std::collections::{BTreeMap, BTreeSet};

use domain::failure::ErrorInfo;
use domain::id::{ItemId, RunId};
use domain::item::{Event, State, next};
use domain::job::JobSpec;
use domain::retry::WhenExhausted;
use domain::run::Discovered;
use domain::runner::{FoundItem, Page};
use jiff::Timestamp;

use crate::db::{Row, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::items::places::{Due, Moves, NEW, class};
use crate::items::sql as items_sql;
use crate::runs::sql as runs_sql;

/// The error code of a run that found more items than the job may have open.
pub const TOO_MANY_OPEN: &str = "too-many-open-items";

/// An item of the page that the store already knows.
struct StoredItem {
    id: ItemId,
    payload: String,
    state: State,
    due_at: Timestamp,
    priority: i64,
    attempts: u32,
    /// Whether an open run waits for its first attempt.
    queued: bool,
    last_attempt_at: Option<Timestamp>,
    exhausted: bool,
}

impl StoredItem {
    fn is_open(&self) -> bool {
        !self.state.is_end()
    }

    fn waits(&self, now: Timestamp) -> bool {
        self.is_open() && self.due_at <= now && !self.queued
    }

    /// Whether the discovery may change it. Writes of all known items would cost one row per item and run; only
    /// absence detection needs them.
    fn may_change(&self, job: &JobSpec, found: &FoundItem, now: Timestamp) -> bool {
        match self.is_open() {
            true => job.resolve_when_absent || self.payload != found.payload || self.waits(now),
            false => true,
        }
    }
}

type Known = BTreeMap<String, StoredItem>;

/// Reads the known items of a page, and locks those that the page may change.
async fn known(tx: &mut Tx, job: &JobSpec, page: &Page, now: Timestamp) -> Result<Known, StoreError> {
    let found: Rows = page
        .items
        .iter()
        .map(|found| found.key.as_str())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|key| row![key])
        .collect();
    if found.is_empty() {
        return Ok(Known::new());
    }
    let args = args! { job: job.name.as_str(), found: found };
    let mut known = read(&tx.fetch(runs_sql::ITEMS_BY_KEYS, &args).await?)?;
    let changing = |found: &FoundItem| {
        let known = known.get(&found.key)?;
        known.may_change(job, found, now).then_some(known.id)
    };
    let changing: BTreeSet<ItemId> = page.items.iter().filter_map(changing).collect();
    if !changing.is_empty() {
        let locked: Rows = changing.into_iter().map(|id| row![id]).collect();
        tx.fetch(runs_sql::ITEMS_FOUND_LOCK, &args! { found: locked.clone() }).await?;
        known.extend(read(&tx.fetch(runs_sql::ITEMS_BY_IDS, &args! { found: locked }).await?)?);
    }
    Ok(known)
}

fn read(rows: &[Row]) -> Result<Known, StoreError> {
    let known = |row: &Row| {
        let known = StoredItem {
            id: row.parse("id")?,
            payload: row.text("payload")?,
            state: row.parse("state")?,
            due_at: row.time("due_at_ms")?,
            priority: row.int("priority")?,
            attempts: row.count("attempts")?,
            queued: row.int("queued")? == 1,
            last_attempt_at: row.opt_time("last_attempt_at_ms")?,
            exhausted: row.int("exhausted")? == 1,
        };
        Ok((row.text("item_key")?, known))
    };
    rows.iter().map(known).collect()
}

/// Items that are due and that no run waits for yet. They stay locked, so that no host claims them before this
/// transaction ends; the others are running.
async fn free(
    tx: &mut Tx,
    job: &JobSpec,
    known: &Known,
    now: Timestamp,
) -> Result<BTreeSet<ItemId>, StoreError> {
    let waiting = known.values().filter(|known| known.waits(now));
    let queued: Rows =
        waiting.map(|known| row![job.name.as_str(), known.priority, known.due_at, known.id]).collect();
    if queued.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = tx.fetch(runs_sql::DUE_LOCK, &args! { queued: queued }).await?;
    rows.iter().map(|row| row.parse("item_id")).collect()
}

/// Number of items that the job may still open. It is counted only if the page would open one.
async fn items_left_to_open(
    tx: &mut Tx,
    job: &JobSpec,
    page: &Page,
    known: &Known,
) -> Result<usize, StoreError> {
    let opens = |found: &FoundItem| known.get(&found.key).is_none_or(|known| known.state.is_end());
    if !page.items.iter().any(opens) {
        return Ok(0);
    }
    let most = job.limits.items_open;
    let args = args! { job: job.name.as_str(), limit: i64::try_from(most).unwrap_or(i64::MAX) };
    let rows = tx.fetch(items_sql::ITEMS_OPEN_COUNT, &args).await?;
    let open = rows.first().map_or(Ok(0), |row| row.int("number"))?;
    Ok(most.saturating_sub(usize::try_from(open).unwrap_or_default()))
}

/// Writes the items of a page. `left` is the number of items that the run may still queue; `None` means no limit.
/// Returns the counts, and the reason why items were refused, if any were.
pub(crate) async fn reconcile(
    tx: &mut Tx,
    job: &JobSpec,
    (run, now): (RunId, Timestamp),
    page: &Page,
    left: Option<u32>,
) -> Result<(Discovered, Option<ErrorInfo>), StoreError> {
    let known = known(tx, job, page, now).await?;
    let free = free(tx, job, &known, now).await?;
    let items_left_to_open = items_left_to_open(tx, job, page, &known).await?;
    let mut reconciler = Reconciler {
        job,
        now,
        left,
        items_left_to_open,
        refused: 0,
        sum: Discovered::default(),
        added: BTreeMap::new(),
        refreshed: Rows::default(),
        reopened: Rows::default(),
        moves: Moves::default(),
    };
    let mut seen = BTreeSet::new();
    for found in page.items.iter().filter(|found| seen.insert(found.key.as_str())) {
        reconciler.sum.found += 1;
        match known.get(&found.key) {
            Some(known) => reconciler.again(found, known, free.contains(&known.id)),
            None => reconciler.add(found),
        }
    }
    let error = reconciler.error();
    Ok((reconciler.write(tx, run).await?, error))
}

/// The changes of a page.
struct Reconciler<'a> {
    job: &'a JobSpec,
    now: Timestamp,
    left: Option<u32>,
    /// Items that the job may still open.
    items_left_to_open: usize,
    /// Items of the page that were refused because too many are open.
    refused: u32,
    sum: Discovered,
    /// By key: two discoveries that add the same items do not deadlock.
    added: BTreeMap<&'a str, (ItemId, &'a str)>,
    refreshed: Rows,
    reopened: Rows,
    moves: Moves,
}

impl<'a> Reconciler<'a> {
    fn add(&mut self, found: &'a FoundItem) {
        if self.may_open() {
            self.added.insert(&found.key, (ItemId::new(self.now), &found.payload));
            self.count();
        }
    }

    fn again(&mut self, found: &FoundItem, known: &StoredItem, free: bool) {
        let exhausted = known.state == State::ManualRequired && known.exhausted;
        let restarts = exhausted && self.job.retry.when_exhausted == WhenExhausted::NextRun;
        let event = if restarts { Event::FoundAnew } else { Event::Found };
        match next(known.state, event) {
            _ if known.is_open() => self.refresh(found, known, free),
            Ok(State::Scheduled) => self.reopen(found, known),
            _ => self.sum.manual += 1,
        }
    }

    fn refresh(&mut self, found: &FoundItem, known: &StoredItem, free: bool) {
        let due = free && known.waits(self.now);
        let queue = due && !self.full();
        if queue || self.job.resolve_when_absent || known.payload != found.payload {
            self.refreshed.push(row![known.id, found.payload.as_str(), queue]);
        }
        match (due, queue) {
            (_, true) => self.count(),
            (true, false) => self.sum.over_cap += 1,
            (false, false) => self.sum.waiting += 1,
        }
    }

    fn reopen(&mut self, found: &FoundItem, known: &StoredItem) {
        if !self.may_open() {
            return;
        }
        // A job with `forget_after` keeps the attempt count for that time, even across a resolution.
        let policy = &self.job.retry;
        let forgets = known.exhausted
            || policy.forget_after.is_none()
            || policy.forgets(known.last_attempt_at, self.now);
        self.reopened.push(row![known.id, found.payload.as_str(), forgets]);
        let job = &self.job.name;
        if known.state == State::ManualRequired {
            self.moves.unpark(known.id);
        }
        self.moves.schedule(Due { job, priority: NEW, at: self.now, item: known.id });
        self.moves.count(job, class(known.state, known.attempts), -1);
        self.moves.count(job, class(State::Scheduled, if forgets { 0 } else { known.attempts }), 1);
        self.count();
    }

    fn full(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether an item that is not open may be opened. If not, a later run finds it again.
    fn may_open(&mut self) -> bool {
        let refused = !self.full() && self.items_left_to_open == 0;
        self.refused += u32::from(refused);
        let may = !self.full() && !refused;
        self.sum.over_cap += u32::from(!may);
        self.items_left_to_open = self.items_left_to_open.saturating_sub(usize::from(may));
        may
    }

    fn count(&mut self) {
        self.sum.queued += 1;
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// The reason why items of the page were refused, if any were.
    fn error(&self) -> Option<ErrorInfo> {
        let (name, most, refused) = (&self.job.name, self.job.limits.items_open, self.refused);
        let text = format!(
            "job {name} has {most} open items, so {refused} new items of a page were refused: they are found again \
             when others are done; raise limits.items_open if that many are meant to be open"
        );
        (refused > 0).then(|| ErrorInfo::new(TOO_MANY_OPEN, text))
    }

    async fn write(mut self, tx: &mut Tx, run: RunId) -> Result<Discovered, StoreError> {
        if !self.refreshed.is_empty() {
            tx.execute(runs_sql::ITEMS_REFRESH, &args! { refreshed: self.refreshed, run: run }).await?;
        }
        if !self.reopened.is_empty() {
            let args = args! { reopened: self.reopened, run: run, now: self.now };
            tx.execute(runs_sql::ITEMS_FOUND_AGAIN, &args).await?;
        }
        if !self.added.is_empty() {
            let wanted = self.added.len();
            let added: Rows =
                self.added.into_iter().map(|(key, (id, payload))| row![id, key, payload]).collect();
            let args = args! { job: self.job.name.as_str(), now: self.now, run: run, added: added };
            let rows = tx.fetch(runs_sql::ITEMS_NEW, &args).await?;
            let job = &self.job.name;
            for row in &rows {
                self.moves.schedule(Due { job, priority: NEW, at: self.now, item: row.parse("id")? });
                self.moves.count(job, class(State::Scheduled, 0), 1);
            }
            // Another discovery added the others first: its run attempts them.
            let missed = u32::try_from(wanted - rows.len()).unwrap_or(u32::MAX);
            self.sum.queued = self.sum.queued.saturating_sub(missed);
            self.sum.waiting = self.sum.waiting.saturating_add(missed);
        }
        self.moves.write(tx).await?;
        Ok(self.sum)
    }
}
