//! Support for the simulator (feature `simulation`, never enabled in shipped builds): defects that can be put
//! into statements, queries for an observer, and a process restart on the same connections.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::scope::Value;

use crate::db::{Db, Most};
use crate::error::StoreError;
use crate::store::Store;

/// A defect of one statement: `to` replaces the first occurrence of `from`.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// The beginning of the statement, which identifies it.
    statement: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn fault(name: &'static str, statement: &'static str, from: &'static str, to: &'static str) -> Fault {
    Fault { name, statement, from, to }
}

const FENCE: &str = "state || '' = 'running' AND epoch = $2 AND attempt_id = $3";

pub const FAULTS: [Fault; 15] = [
    fault(
        "an end is not fenced",
        "UPDATE item SET state = $4, due_at_ms = $5, attempts",
        FENCE,
        "(1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "an end asks only whether the item runs",
        "UPDATE item SET state = $4, due_at_ms = $5, attempts",
        FENCE,
        "state = 'running' AND (1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "a claim keeps the epoch",
        "UPDATE item SET state = 'running'",
        "epoch = epoch + 1",
        "epoch = max(epoch, 1)",
    ),
    fault(
        "a crash is not counted at the claim",
        "UPDATE item SET state = 'running'",
        "crashes = crashes + 1",
        "crashes = crashes",
    ),
    fault(
        "a process renews what its former life held",
        "UPDATE item SET lease_until_ms = ",
        "AND attempt_id IN (SELECT value FROM json_each($3))",
        "AND (1 = 1 OR attempt_id = $3)",
    ),
    fault(
        "leases are taken before they end",
        "SELECT id, job, item_key, epoch",
        "lease_until_ms < $1",
        "lease_until_ms < $1 + 9000",
    ),
    fault(
        "each host looks for its own lost work only",
        "SELECT id, job, item_key, epoch",
        "(lease_until_ms < $1 OR host_id = $2)",
        "(lease_until_ms < $1 AND host_id = $2)",
    ),
    fault(
        "a tick fires on each host",
        "INSERT INTO tick",
        "WHERE tick.run_id IS NULL AND tick.decided_at_ms < tick.at_ms",
        "WHERE 1 = 1",
    ),
    fault(
        "a page is not fenced",
        "UPDATE run SET page_cursor",
        "epoch = $2 AND attempt_id = $3",
        "(1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "the lease is not looked at before a business commit",
        "SELECT lease_until_ms FROM item WHERE id = $1",
        FENCE,
        "(1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "an outcome that was sent before is not known again",
        "SELECT item_id FROM attempt",
        "item_id = $1",
        "1 = 0 AND item_id = $1",
    ),
    fault(
        "a host that stops puts back what it does not hold",
        "UPDATE item SET state = 'waiting', due_at_ms = $5, priority = 0",
        FENCE,
        "state = 'running' AND (1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "a stop counts as a crash",
        "UPDATE item SET state = 'waiting', due_at_ms = $5, priority = 0",
        "crashes = crashes - 1",
        "crashes = crashes",
    ),
    fault(
        "what runs is not counted",
        "SELECT COUNT(*) AS n FROM item WHERE job = $1 AND state = 'running'",
        "COUNT(*) AS n",
        "0 * COUNT(*) AS n",
    ),
    fault(
        "the backoff is not kept",
        "UPDATE item SET state = 'running'",
        "due_at_ms <= $4",
        "due_at_ms <= $4 + 1500",
    ),
];

thread_local! {
    static PRESENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Puts a fault of [`FAULTS`], or none, into all statements of this thread.
pub fn put(fault: Option<usize>) {
    PRESENT.set(fault);
}

/// The text of a statement with this thread's fault.
pub(crate) fn seen(text: &'static str) -> &'static str {
    let Some((number, fault)) = PRESENT.get().and_then(|number| Some((number, FAULTS.get(number)?))) else {
        return text;
    };
    if !text.starts_with(fault.statement) || !text.contains(fault.from) {
        return text;
    }
    static SEEN: Mutex<BTreeMap<(usize, &str), &str>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Leaks one text for each fault and statement, for the duration of the simulator.
    seen.entry((number, text)).or_insert_with(|| text.replacen(fault.from, fault.to, 1).leak())
}

impl Store {
    /// Fetches the rows of a reading statement.
    pub async fn ask(&self, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        Store::rows(&self.db, sql).await
    }

    /// The same on a business database.
    pub async fn ask_business(&self, datasource: &str, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        let away = |e: domain::scope::ScopeError| StoreError::Unavailable(e.to_string());
        Store::rows(self.datasources.get(datasource).map_err(away)?, sql).await
    }

    async fn rows(db: &Db, sql: &str) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut tx = db.begin_read().await?;
        let rows = tx.fetch_declared(sql, &[], Most::ALL).await?;
        Ok(rows.into_iter().map(crate::db::Row::into_values).collect())
    }

    /// Runs a statement on a business database and commits it.
    pub async fn tell(&self, datasource: &str, sql: &str) -> Result<(), StoreError> {
        let away = |e: domain::scope::ScopeError| StoreError::Unavailable(e.to_string());
        let mut tx = self.datasources.get(datasource).map_err(away)?.begin().await?;
        tx.execute_declared(sql, &[]).await?;
        tx.commit().await
    }

    /// Simulates a restart after a kill: the process forgets its claims.
    pub fn begin_anew(&self) {
        self.held_claims.lock().clear();
    }
}
