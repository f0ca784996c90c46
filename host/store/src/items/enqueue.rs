//! Items that a person or another job adds, as if a discovery had found them.

use std::collections::{BTreeMap, BTreeSet};

use domain::effect::NewItem;
use domain::engine_event::EngineEvent;
use domain::id::{ItemId, JobName};
use domain::item::State;
use domain::limits::MIB;
use jiff::Timestamp;

use crate::audit::{Entry, fingerprint, write};
use crate::db::sql::Sql;
use crate::db::{Rows, Tx, args, row};
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

impl Items<'_> {
    /// Adds an item manually. Returns the resulting item.
    pub async fn add(
        self,
        item: &NewItem,
        actor: &str,
        now: Timestamp,
    ) -> Result<(Added, ItemView), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let changed = enqueue(&mut tx, &[item], actor, now).await? == 1;
        let rows =
            tx.fetch(items_sql::ITEM_GET, &args! { job: item.job.as_str(), key: item.key.as_str() }).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("item {:?}", item.key)))?;
        let added = match (changed, row.int("series")?) {
            (false, _) => Added::Kept,
            (true, 1) => Added::New,
            (true, _) => Added::Reopened,
        };
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
}

/// Maximum payload bytes of one statement. Even with JSON escaping it stays far below SQLite's limit for a
/// value.
const ENQUEUE_BYTES: usize = MIB;

/// Resolved items of these keys, in the order of their ids. `ON CONFLICT DO UPDATE` would lock the open items, too,
/// and in the order of keys.
pub(crate) const RESOLVED_LOCK: Sql = Sql::differs(
    "SELECT item.id, item.job, asked.payload FROM @asked(job text, item_key text, payload text)
    @join(item ON item.job = asked.job AND item.item_key = asked.item_key) WHERE item.state = 'resolved'",
    // The key is found as in `runs::sql::ITEMS_BY_KEYS`, and the row is locked in a step of its own: a lock in the
    // first step would also lock the next key.
    "WITH found AS MATERIALIZED (SELECT known.id, asked.payload FROM @asked(job text, item_key text, payload text)
        CROSS JOIN LATERAL (SELECT id, item_key, state FROM item
            WHERE item.job = asked.job AND item.item_key >= asked.item_key ORDER BY item.item_key LIMIT 1) AS known
        WHERE known.item_key = asked.item_key AND known.state = 'resolved' ORDER BY known.id)
    SELECT item.id, item.job, found.payload FROM found CROSS JOIN LATERAL (SELECT * FROM item
        WHERE item.id = found.id AND item.state = 'resolved' FOR UPDATE) AS item",
);
const ITEMS_REOPEN: Sql = Sql::same(
    "UPDATE item SET payload = reopened.payload, state = 'scheduled', priority = 1, attempts = 0,
        series = item.series + 1, first_attempt_at_ms = NULL, resolved_at_ms = NULL, due_at_ms = :now,
        created_by = :by, updated_at_ms = :now, version = item.version + 1
    FROM @reopened(id uuid, payload text) @target(item ON item.id = reopened.id) AND item.state = 'resolved'",
);
/// Items that a person or another job adds. Existing items are not changed.
pub(crate) const ITEMS_ADD: Sql = Sql::same(
    "INSERT INTO item (id, job, item_key, payload, state, due_at_ms, created_by, created_at_ms, updated_at_ms)
    SELECT id, job, item_key, payload, 'scheduled', :now, :by, :now, :now
    FROM @added(id uuid, job text, item_key text, payload text) WHERE true
    ON CONFLICT (job, item_key) DO NOTHING RETURNING id, job",
);

/// Adds items or reopens resolved ones. Returns their number. Of two items with the same key the first
/// counts, as if the second was added later.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    added: &[&NewItem],
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut keys = BTreeSet::new();
    let first: Vec<&NewItem> =
        added.iter().copied().filter(|item| keys.insert((&item.job, &item.key))).collect();
    let (mut portion, mut bytes, mut count) = (Vec::new(), 0, 0);
    for item in first {
        portion.push(item);
        bytes += item.payload.len();
        if bytes >= ENQUEUE_BYTES {
            count += enqueue_portion(tx, &portion, by, now).await?;
            (portion, bytes) = (Vec::new(), 0);
        }
    }
    count += enqueue_portion(tx, &portion, by, now).await?;
    if count > 0 {
        let jobs: BTreeSet<&JobName> = added.iter().map(|item| &item.job).collect();
        jobs.into_iter().for_each(|job| tx.note(EngineEvent::ItemsAdded { job: job.clone() }));
    }
    Ok(count)
}

async fn enqueue_portion(
    tx: &mut Tx,
    items: &[&NewItem],
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    if items.is_empty() {
        return Ok(0);
    }
    let mut moves = Moves::default();
    let reopened = reopen(tx, items, by, now, &mut moves).await?;
    // In the order of their keys: two transactions that add the same items do not deadlock.
    let mut sorted = items.to_vec();
    sorted.sort_by_key(|item| (&item.job, &item.key));
    let ids: BTreeMap<(&JobName, &String), ItemId> =
        items.iter().map(|item| ((&item.job, &item.key), ItemId::new(now))).collect();
    let id = |item: &NewItem| ids.get(&(&item.job, &item.key)).copied();
    let added: Rows = sorted
        .iter()
        .map(|item| row![id(item), item.job.as_str(), item.key.as_str(), item.payload.as_str()])
        .collect();
    let rows = tx.fetch(ITEMS_ADD, &args! { added: added, now: now, by: by }).await?;
    for row in &rows {
        let job: JobName = row.parse("job")?;
        moves.schedule(Due { job: &job, priority: NEW, at: now, item: row.parse("id")? });
        moves.count(&job, class(State::Scheduled, 0), 1);
    }
    moves.write(tx).await?;
    Ok(reopened + rows.len() as u64)
}

async fn reopen(
    tx: &mut Tx,
    items: &[&NewItem],
    by: &str,
    now: Timestamp,
    moves: &mut Moves,
) -> Result<u64, StoreError> {
    let key = |item: &&NewItem| row![item.job.as_str(), item.key.as_str(), item.payload.as_str()];
    let rows = tx.fetch(RESOLVED_LOCK, &args! { asked: items.iter().map(key).collect::<Rows>() }).await?;
    let mut reopened = Rows::default();
    for row in &rows {
        let (job, id): (JobName, ItemId) = (row.parse("job")?, row.parse("id")?);
        reopened.push(row![id, row.text("payload")?]);
        moves.schedule(Due { job: &job, priority: NEW, at: now, item: id });
        moves.count(&job, class(State::Resolved, 0), -1);
        moves.count(&job, class(State::Scheduled, 0), 1);
    }
    match reopened.is_empty() {
        true => Ok(0),
        false => tx.execute(ITEMS_REOPEN, &args! { reopened: reopened, now: now, by: by }).await,
    }
}
