//! Defects of the store's statements. The simulation must find each of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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
        "an end checks only whether the item is running",
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
        "a restarted process renews the claims from before its restart",
        "UPDATE item SET lease_until_ms = ",
        "AND attempt_id IN (SELECT value FROM json_each($3))",
        "AND (1 = 1 OR attempt_id = $3)",
    ),
    fault(
        "a lease is recovered before it ends",
        "SELECT id, job, item_key, epoch",
        "lease_until_ms < $1",
        "lease_until_ms < $1 + 9000",
    ),
    fault(
        "each host recovers only its own lost work",
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
        "the lease is not checked before a business commit",
        "SELECT lease_until_ms FROM item WHERE id = $1",
        FENCE,
        "(1 = 1 OR epoch = $2 OR attempt_id = $3)",
    ),
    fault(
        "an outcome that is sent again is not recognized",
        "SELECT item_id FROM attempt",
        "item_id = $1",
        "1 = 0 AND item_id = $1",
    ),
    fault(
        "a host that stops puts back items that it does not hold",
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
        "running items are not counted",
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

/// The text of a statement with this thread's fault. The store calls it for each statement.
pub fn with_fault(text: &'static str) -> &'static str {
    let Some((number, fault)) = PRESENT.get().and_then(|number| Some((number, FAULTS.get(number)?))) else {
        return text;
    };
    if !text.starts_with(fault.statement) || !text.contains(fault.from) {
        return text;
    }
    static CHANGED: Mutex<BTreeMap<(usize, &str), &str>> = Mutex::new(BTreeMap::new());
    let mut changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    // Leaks one text for each fault and statement, for the duration of the simulator.
    changed.entry((number, text)).or_insert_with(|| text.replacen(fault.from, fault.to, 1).leak())
}
