//! Reconciles one page of a discovery with the known items: items are added, refreshed and reopened, within
//! the limits of queued items per run and open items per job.

use std::collections::BTreeMap;

use domain::failure::ErrorInfo;
use domain::id::{ItemId, RunId};
use domain::item::{Event, State, next};
use domain::job::JobSpec;
use domain::retry::WhenExhausted;
use domain::run::Discovered;
use domain::runner::{FoundItem, Page};
use jiff::Timestamp;

use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::items::sql as items_sql;

/// The error code of a run that found more items than the job may have open.
pub const TOO_MANY_OPEN: &str = "too-many-open-items";

/// Number of items that the job may still open. It is counted only if the page would open one.
pub(crate) async fn items_left_to_open(
    tx: &mut Tx,
    job: &JobSpec,
    page: &Page,
    known: &BTreeMap<String, StoredItem>,
) -> Result<usize, StoreError> {
    let opens = |found: &FoundItem| known.get(&found.key).is_none_or(|known| known.state.is_end());
    if !page.items.iter().any(opens) {
        return Ok(0);
    }
    let most = job.limits.items_open;
    let args = args![job.name.as_str(), i64::try_from(most).unwrap_or(i64::MAX)];
    let rows = tx.fetch(items_sql::ITEMS_OPEN_COUNT, &args).await?;
    let open = rows.first().map_or(Ok(0), |row| row.int("number"))?;
    Ok(most.saturating_sub(usize::try_from(open).unwrap_or_default()))
}

/// An item of the page that the store already knows.
pub(crate) struct StoredItem {
    id: ItemId,
    payload: String,
    state: State,
    due_at: Timestamp,
    queued: bool,
    last_attempt_at: Option<Timestamp>,
    exhausted: bool,
    version: i64,
}

pub(crate) async fn known(
    tx: &mut Tx,
    job: &JobSpec,
    page: &Page,
) -> Result<BTreeMap<String, StoredItem>, StoreError> {
    let keys: Vec<&str> = page.items.iter().map(|found| found.key.as_str()).collect();
    let keys = serde_json::to_string(&keys).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let rows = tx.fetch(items_sql::ITEMS_BY_KEYS, &args![job.name.as_str(), keys]).await?;
    let known = |row: &Row| {
        let known = StoredItem {
            id: row.parse("id")?,
            payload: row.text("payload")?,
            state: row.parse("state")?,
            due_at: row.time("due_at_ms")?,
            queued: row.opt_text("run_id")?.is_some(),
            last_attempt_at: row.opt_time("last_attempt_at_ms")?,
            exhausted: row.int("exhausted")? == 1,
            version: row.int("version")?,
        };
        Ok((row.text("item_key")?, known))
    };
    rows.iter().map(known).collect()
}

pub(crate) struct Reconciler<'a> {
    pub tx: &'a mut Tx,
    pub job: &'a JobSpec,
    pub run: RunId,
    pub now: Timestamp,
    /// Items that this run may still queue; `None` means no limit.
    pub left: Option<u32>,
    /// Items that the job may still open.
    pub items_left_to_open: usize,
    /// Items of the page that were refused because too many are open.
    pub refused: u32,
}

impl Reconciler<'_> {
    pub async fn one(
        &mut self,
        found: &FoundItem,
        known: Option<&StoredItem>,
        sum: &mut Discovered,
    ) -> Result<(), StoreError> {
        let Some(known) = known else {
            return self.add(found, sum).await;
        };
        let exhausted = known.state == State::ManualRequired && known.exhausted;
        let restarts = exhausted && self.job.retry.when_exhausted == WhenExhausted::NextRun;
        let event = if restarts { Event::FoundAnew } else { Event::Found };
        match next(known.state, event) {
            _ if !known.state.is_end() => self.refresh(found, known, sum).await,
            Ok(State::Waiting) => self.reopen(found, known, sum).await,
            _ => {
                sum.manual += 1;
                Ok(())
            }
        }
    }

    fn full(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether an item that is not open may be opened. If not, a later run finds it again.
    fn may_open(&mut self, sum: &mut Discovered) -> bool {
        let refused = !self.full() && self.items_left_to_open == 0;
        self.refused += u32::from(refused);
        let may = !self.full() && !refused;
        sum.over_cap += u32::from(!may);
        may
    }

    fn opened(&mut self, changed: u64, sum: &mut Discovered) {
        if changed == 1 {
            self.items_left_to_open = self.items_left_to_open.saturating_sub(1);
        }
        self.count(changed, sum);
    }

    /// The reason why items of the page were refused, if any were.
    pub fn error(&self) -> Option<ErrorInfo> {
        let (name, most, refused) = (&self.job.name, self.job.limits.items_open, self.refused);
        let text = format!(
            "job {name} has {most} open items, so {refused} new items of a page were refused: they are found again \
             when others are done; raise limits.items_open if that many are meant to be open"
        );
        (refused > 0).then(|| ErrorInfo::new(TOO_MANY_OPEN, text))
    }

    fn count(&mut self, changed: u64, sum: &mut Discovered) {
        if changed == 0 {
            // Another host changed the item first: its run attempts it.
            sum.waiting += 1;
            return;
        }
        sum.queued += 1;
        self.left = self.left.map(|left| left - 1);
    }

    async fn add(&mut self, found: &FoundItem, sum: &mut Discovered) -> Result<(), StoreError> {
        if !self.may_open(sum) {
            return Ok(());
        }
        let args = args![
            ItemId::new(self.now).to_string(),
            self.job.name.as_str(),
            found.key.as_str(),
            found.payload.as_str(),
            self.now,
            self.run.to_string()
        ];
        let changed = self.tx.execute(items_sql::ITEM_ADD, &args).await?;
        self.opened(changed, sum);
        Ok(())
    }

    async fn refresh(
        &mut self,
        found: &FoundItem,
        known: &StoredItem,
        sum: &mut Discovered,
    ) -> Result<(), StoreError> {
        let due = known.state != State::Running && known.due_at <= self.now && !known.queued;
        let queue = due && !self.full();
        // Unconditional writes would cost one row per known item and run; only absence detection needs them.
        if queue || self.job.resolve_when_absent || known.payload != found.payload {
            let args = args![
                known.id.to_string(),
                known.version,
                found.payload.as_str(),
                self.run.to_string(),
                queue.then(|| self.run.to_string())
            ];
            let changed = self.tx.execute(items_sql::ITEM_REFRESH, &args).await?;
            if changed == 0 {
                // Its attempt has just ended. It was still found, so it must not count as absent.
                let args = args![known.id.to_string(), self.run.to_string()];
                self.tx.execute(items_sql::ITEM_SEEN, &args).await?;
            }
            if queue {
                self.count(changed, sum);
                return Ok(());
            }
        }
        if due {
            sum.over_cap += 1
        } else {
            sum.waiting += 1
        }
        Ok(())
    }

    async fn reopen(
        &mut self,
        found: &FoundItem,
        known: &StoredItem,
        sum: &mut Discovered,
    ) -> Result<(), StoreError> {
        if !self.may_open(sum) {
            return Ok(());
        }
        // A job with `forget_after` keeps the attempt count for that time, even across a resolution.
        let policy = &self.job.retry;
        let forgets = known.exhausted
            || policy.forget_after.is_none()
            || policy.forgets(known.last_attempt_at, self.now);
        let args = args![
            known.id.to_string(),
            known.version,
            found.payload.as_str(),
            self.run.to_string(),
            self.now,
            i64::from(forgets)
        ];
        let changed = self.tx.execute(items_sql::ITEM_REOPEN, &args).await?;
        self.opened(changed, sum);
        Ok(())
    }
}
