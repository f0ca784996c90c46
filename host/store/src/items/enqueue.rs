//! Items that a person or another job adds, as if a discovery had found them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;

use domain::effect::NewItem;
use domain::engine_event::EngineEvent;
use domain::id::{ItemId, JobName};
use domain::item::State;
use domain::job::JobSpec;
use domain::limits::MIB;
use domain::runner::FoundItem;
use jiff::Timestamp;

use crate::audit::{Entry, fingerprint, fingerprint_of_items, write};
use crate::db::sql::Sql;
use crate::db::{Portions, Rows, Tx, args, row};
use crate::error::StoreError;
use crate::items::Items;
use crate::items::places::{Due, Moves, NEW, class};
use crate::items::sql as items_sql;
use crate::items::{ItemView, item_view};

/// The result of adding an item manually.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    New,
    /// It was resolved, and starts again with the new payload.
    Reopened,
    /// It is open or waits for a person: it keeps its payload, and the new one is dropped.
    Kept,
}

/// The number of items with each result, as in [`Added`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enqueued {
    pub added: u64,
    pub reopened: u64,
    pub kept: u64,
}

impl Enqueued {
    /// Items that are open because of this.
    pub fn changed(self) -> u64 {
        self.added + self.reopened
    }
}

impl Add for Enqueued {
    type Output = Enqueued;

    fn add(self, more: Enqueued) -> Enqueued {
        Enqueued {
            added: self.added + more.added,
            reopened: self.reopened + more.reopened,
            kept: self.kept + more.kept,
        }
    }
}

impl Items<'_> {
    /// Adds an item manually. Returns the resulting item.
    pub async fn add(
        self,
        item: &NewItem,
        actor: &str,
        now: Timestamp,
    ) -> Result<(Added, ItemView), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let mut addition = Additions::default();
        addition.add(item, actor, now);
        let added = match addition.write(&mut tx, now).await? {
            Enqueued { added: 1.., .. } => Added::New,
            Enqueued { reopened: 1.., .. } => Added::Reopened,
            Enqueued { .. } => Added::Kept,
        };
        let rows =
            tx.fetch(items_sql::ITEM_GET, &args! { job: item.job.as_str(), key: item.key.as_str() }).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("item {:?}", item.key)))?;
        if added != Added::Kept {
            let (job, detail) = (item.job.as_str(), fingerprint(&item.payload));
            let entry =
                Entry { actor, action: "item_added", job: Some(job), subject: &item.key, detail: &detail };
            write(&mut tx, &entry, now).await?;
        }
        let view = item_view(row)?;
        tx.commit().await?;
        Ok((added, view))
    }

    /// Adds many items of one job manually, in one transaction with one audit record. Returns `None` and changes
    /// nothing if the job would have more open items than its `limits.items_open`.
    pub async fn add_portion(
        self,
        job: &JobSpec,
        items: &[FoundItem],
        actor: &str,
        now: Timestamp,
    ) -> Result<Option<Enqueued>, StoreError> {
        let content =
            fingerprint_of_items(items.iter().map(|item| (item.key.as_str(), item.payload.as_str())));
        let mut tx = self.store.db.begin().await?;
        let wanted = items.iter().map(|item| Wanted::new(&item.key, &item.payload, actor, now)).collect();
        let counts = Additions(BTreeMap::from([(&job.name, wanted)])).write(&mut tx, now).await?;
        if counts.changed() == 0 {
            tx.rollback().await?;
            return Ok(Some(counts));
        }
        if has_too_many(&mut tx, job).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let Enqueued { added, reopened, kept } = counts;
        let detail = format!("{added} added, {reopened} reopened, {kept} kept; {content}");
        let name = job.name.as_str();
        let entry = Entry { actor, action: "items_added", job: Some(name), subject: name, detail: &detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(Some(counts))
    }
}

async fn has_too_many(tx: &mut Tx, job: &JobSpec) -> Result<bool, StoreError> {
    let most = i64::try_from(job.limits.items_open).unwrap_or(i64::MAX);
    // Counts no further than to one above the limit.
    let rows = tx
        .fetch(items_sql::ITEMS_OPEN_COUNT, &args! { job: job.name.as_str(), limit: most.saturating_add(1) })
        .await?;
    Ok(rows.first().map(|row| row.int("number")).transpose()?.is_some_and(|open| open > most))
}

/// Maximum payload bytes of one statement. Even with JSON escaping it stays far below SQLite's limit for a
/// value.
const ENQUEUE_BYTES: usize = MIB;
/// From this number of items on, one statement first checks whether any of their keys can exist. Fewer items do not
/// justify a statement more.
const CHECKED_FROM: usize = 64;

/// The first known key of the job within the range of the given ones. New keys are often beyond all known ones, for
/// example if they have a date. The database compares keys, because its order is not that of bytes.
pub(crate) const KEY_KNOWN: Sql = Sql::same(
    "SELECT nearest.item_key FROM (SELECT item_key FROM item
        WHERE job = :job AND item_key >= (SELECT MIN(item_key) FROM @asked(item_key text))
        ORDER BY item_key LIMIT 1) AS nearest
    WHERE nearest.item_key <= (SELECT MAX(item_key) FROM @asked(item_key text))",
);
/// Resolved items of these keys, in the order of their ids. `ON CONFLICT DO UPDATE` would lock the open items, too,
/// and in the order of keys.
pub(crate) const RESOLVED_LOCK: Sql = Sql::differs(
    "SELECT item.id, item.item_key FROM @asked(item_key text)
    @join(item ON item.item_key = asked.item_key) WHERE item.job = :job AND item.state = 'resolved'",
    // The key is found as in `runs::sql::ITEMS_BY_KEYS`, and the row is locked in a step of its own: a lock in the
    // first step would also lock the next key.
    "WITH found AS MATERIALIZED (SELECT known.id FROM @asked(item_key text)
        CROSS JOIN LATERAL (SELECT id, item_key, state FROM item
            WHERE item.job = :job AND item.item_key >= asked.item_key ORDER BY item.item_key LIMIT 1) AS known
        WHERE known.item_key = asked.item_key AND known.state = 'resolved' ORDER BY known.id)
    SELECT item.id, item.item_key FROM found CROSS JOIN LATERAL (SELECT * FROM item
        WHERE item.id = found.id AND item.state = 'resolved' FOR UPDATE) AS item",
);
const ITEMS_REOPEN: Sql = Sql::same(
    "UPDATE item SET payload = reopened.payload, state = 'scheduled', priority = 1, attempts = 0,
        series = item.series + 1, first_attempt_at_ms = NULL, resolved_at_ms = NULL, due_at_ms = reopened.at_ms,
        created_by = reopened.created_by, updated_at_ms = reopened.at_ms, version = item.version + 1
    FROM @reopened(id uuid, payload text, created_by text, at_ms bigint) @target(item ON item.id = reopened.id) AND item.state = 'resolved'",
);
/// Items that a person or another job adds. Existing items are not changed. No row is returned: each would cost more
/// than its insertion into `due`.
pub(crate) const ITEMS_ADD: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_by, created_at_ms, updated_at_ms)
    SELECT id, :job, item_key, payload, 'scheduled', :now, created_by, :now, :now
    FROM @added(id uuid, item_key text, payload text, created_by text) WHERE true
    ON CONFLICT (job, item_key) DO NOTHING",
);
/// Makes all these items due.
pub(crate) const DUE_ADD_ALL: Sql = Sql::same(
    "INSERT INTO due (job, priority, due_at_ms, item_id) SELECT :job, :priority, :now, id FROM @added(id uuid)",
);
/// Makes those of these new items due that exist: the key of the others was known.
pub(crate) const DUE_ADD_EXISTING: Sql = Sql::same(
    "INSERT INTO due (job, priority, due_at_ms, item_id) SELECT item.job, :priority, :now, item.id
    FROM @added(id uuid) @join(item ON item.id = added.id)",
);

/// An item to add, with the id that it gets if its key is new.
struct Wanted<'a> {
    id: ItemId,
    key: &'a str,
    payload: &'a str,
    by: &'a str,
}

impl<'a> Wanted<'a> {
    fn new(key: &'a str, payload: &'a str, by: &'a str, now: Timestamp) -> Wanted<'a> {
        Wanted { id: ItemId::new(now), key, payload, by }
    }
}

/// The items to add, by their job.
#[derive(Default)]
pub(crate) struct Additions<'a>(BTreeMap<&'a JobName, Vec<Wanted<'a>>>);

impl<'a> Additions<'a> {
    pub fn add(&mut self, item: &'a NewItem, by: &'a str, now: Timestamp) {
        self.0.entry(&item.job).or_default().push(Wanted::new(&item.key, &item.payload, by, now));
    }

    /// Adds items or reopens resolved ones. Of two items with the same key the first counts, as if the second was
    /// added later.
    ///
    /// Resolved items are locked before new ones are inserted, both in the order of jobs. Within a job, locks are
    /// taken in the order of ids, and items are inserted in the order of keys. So transactions that add the same
    /// items wait for each other and do not deadlock. Two that also end items which the other one adds may: an
    /// insertion waits for a change of the existing row. Postgres ends one of them, and it is repeated.
    pub async fn write(mut self, tx: &mut Tx, now: Timestamp) -> Result<Enqueued, StoreError> {
        let (mut moves, mut counts, mut kept) = (Moves::default(), Enqueued::default(), 0);
        let mut changed = BTreeSet::new();
        for (job, items) in &mut self.0 {
            kept += items.len() as u64;
            // The sort is stable, so the first item with a key stays.
            items.sort_by_key(|item| item.key);
            items.dedup_by_key(|item| item.key);
            let reopened = reopen(tx, job, items, now, &mut moves).await?;
            counts.reopened += reopened;
            changed.extend((reopened > 0).then_some(*job));
        }
        for (job, items) in &self.0 {
            let added = add(tx, job, items, now, &mut moves).await?;
            counts.added += added;
            changed.extend((added > 0).then_some(*job));
        }
        moves.write(tx).await?;
        changed.into_iter().for_each(|job| tx.note(EngineEvent::ItemsAdded { job: job.clone() }));
        counts.kept = kept - counts.changed();
        Ok(counts)
    }
}

/// The number of items that one statement takes, at least one.
fn part_of(items: &[Wanted<'_>]) -> usize {
    let mut bytes = 0;
    let full = |item: &Wanted<'_>| {
        bytes += item.payload.len();
        bytes >= ENQUEUE_BYTES
    };
    items.iter().position(full).map_or(items.len(), |last| last + 1)
}

/// Inserts those items whose keys are new. Returns their number.
async fn add(
    tx: &mut Tx,
    job: &JobName,
    items: &[Wanted<'_>],
    now: Timestamp,
    moves: &mut Moves,
) -> Result<u64, StoreError> {
    let (mut all, mut rest) = (0, items);
    while !rest.is_empty() {
        let (part, more) = rest.split_at(part_of(rest));
        all += add_part(tx, job, part, now).await?;
        rest = more;
    }
    moves.count(job, class(State::Scheduled, 0), i64::try_from(all).unwrap_or(i64::MAX));
    Ok(all)
}

async fn add_part(
    tx: &mut Tx,
    job: &JobName,
    items: &[Wanted<'_>],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let rows: Rows = items.iter().map(|item| row![item.id, item.key, item.payload, item.by]).collect();
    let added = tx.execute(ITEMS_ADD, &args! { job: job.as_str(), added: rows, now: now }).await?;
    let ids = || items.iter().map(|item| row![item.id]).collect::<Rows>();
    if added == items.len() as u64 {
        let due = args! { job: job.as_str(), priority: NEW, now: now, added: ids() };
        tx.execute(DUE_ADD_ALL, &due).await?;
    } else if added > 0 {
        tx.execute(DUE_ADD_EXISTING, &args! { priority: NEW, now: now, added: ids() }).await?;
    }
    Ok(added)
}

/// Reopens resolved items. `items` are sorted by their keys.
async fn reopen(
    tx: &mut Tx,
    job: &JobName,
    items: &[Wanted<'_>],
    now: Timestamp,
    moves: &mut Moves,
) -> Result<u64, StoreError> {
    let keys = || items.iter().map(|item| row![item.key]).collect::<Rows>();
    if items.len() >= CHECKED_FROM {
        let known = tx.fetch(KEY_KNOWN, &args! { job: job.as_str(), asked: keys() }).await?;
        if known.is_empty() {
            return Ok(0);
        }
    }
    let (mut reopened, mut number) = (Portions::default(), 0);
    for row in tx.fetch(RESOLVED_LOCK, &args! { job: job.as_str(), asked: keys() }).await? {
        let (id, key): (ItemId, String) = (row.parse("id")?, row.text("item_key")?);
        let found = items.binary_search_by_key(&key.as_str(), |item| item.key).ok();
        let Some(item) = found.and_then(|at| items.get(at)) else {
            return Err(StoreError::Corrupt(format!("item {key:?} was not asked for")));
        };
        reopened.push(row![id, item.payload, item.by, now]);
        number += 1;
        moves.schedule(Due { job, priority: NEW, at: now, item: id });
    }
    moves.count(job, class(State::Resolved, 0), -number);
    moves.count(job, class(State::Scheduled, 0), number);
    reopened.execute(tx, ITEMS_REOPEN, "reopened").await
}
