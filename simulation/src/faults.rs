//! Defects of the store's statements. The simulation must find each of them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A defect. If two statements prevent it, each of them is changed.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    changes: &'static [Change],
}

/// In the statement that begins with `statement` and contains `from`, `to` replaces the first occurrence of `from`.
#[derive(Debug)]
struct Change {
    statement: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn fault(name: &'static str, changes: &'static [Change]) -> Fault {
    Fault { name, changes }
}

const fn change(statement: &'static str, from: &'static str, to: &'static str) -> Change {
    Change { statement, from, to }
}

const CLAIMS_LOCK: &str = "SELECT claim.id, claim.open_items FROM @asked";
const ITEMS_LOCK: &str = "SELECT item.id, item.epoch, item.state";
const ITEMS_END: &str =
    "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, state = ended.state";
const ITEMS_RELEASE: &str =
    "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, state = 'scheduled'";
const ITEMS_RECOVER: &str = "UPDATE item SET epoch = item.epoch + 1, version = item.version + 1, crashes";
const CLAIMS_LOST: &str = "SELECT id FROM claim WHERE (lease_until_ms < :now";
const DUE_REMOVE: &str = "DELETE FROM due WHERE rowid IN (SELECT due.rowid";
const EPOCH: &str = "epoch = item.epoch + 1";
const EPOCH_KEPT: &str = "epoch = item.epoch";

pub const FAULTS: &[Fault] = &[
    fault(
        "an end is not fenced",
        &[
            change(
                CLAIMS_LOCK,
                "SELECT",
                "SELECT id, 2 AS open_items FROM @asked(id uuid) WHERE id NOT IN (SELECT id FROM claim)
                UNION ALL SELECT",
            ),
            change(ITEMS_LOCK, "item.epoch, item.state", "asked.epoch, item.state"),
            change(ITEMS_LOCK, "item.epoch = asked.epoch", "1 = 1"),
            change(ITEMS_END, "item.epoch = ended.epoch", "1 = 1"),
            change(ITEMS_RELEASE, "item.epoch = released.epoch", "1 = 1"),
        ],
    ),
    fault(
        "an end checks its claim, but not its epoch",
        &[
            change(ITEMS_LOCK, "item.epoch, item.state", "asked.epoch, item.state"),
            change(ITEMS_LOCK, "item.epoch = asked.epoch", "1 = 1"),
            change(ITEMS_END, "item.epoch = ended.epoch", "1 = 1"),
            change(ITEMS_RELEASE, "item.epoch = released.epoch", "1 = 1"),
        ],
    ),
    fault("an end keeps the epoch", &[change(ITEMS_END, EPOCH, EPOCH_KEPT)]),
    fault("a release keeps the epoch", &[change(ITEMS_RELEASE, EPOCH, EPOCH_KEPT)]),
    fault("recovery keeps the epoch", &[change(ITEMS_RECOVER, EPOCH, EPOCH_KEPT)]),
    fault(
        "a crash is not counted at recovery",
        &[change(ITEMS_RECOVER, "crashes = item.crashes + 1", "crashes = item.crashes")],
    ),
    fault(
        "a stop counts as a crash",
        &[change(ITEMS_RELEASE, "priority = 0", "priority = 0, crashes = item.crashes + 1")],
    ),
    fault("a stop forgets crashes", &[change(ITEMS_RELEASE, "priority = 0", "priority = 0, crashes = 0")]),
    fault("an end does not forget crashes", &[change(ITEMS_END, "crashes = 0, ", "")]),
    fault(
        "a process renews claims that it does not hold",
        &[change(
            "UPDATE claim SET lease_until_ms",
            "AND incarnation = :incarnation AND id IN (SELECT id FROM @held(id uuid))",
            "AND (1 = 1 OR incarnation = :incarnation OR id IN (SELECT id FROM @held(id uuid)))",
        )],
    ),
    fault(
        "a lease is recovered before it ends",
        &[change(CLAIMS_LOST, "lease_until_ms < :now", "lease_until_ms < :now + 9000")],
    ),
    fault("each host recovers only its own lost work", &[change(CLAIMS_LOST, ":now OR", ":now AND")]),
    fault(
        "recovery puts back all that a claim lists",
        &[change("SELECT claimed.claim_id, claimed.host_id", "item.epoch = claimed.epoch", "1 = 1")],
    ),
    fault(
        "the lease is not checked before a business commit",
        &[change(
            "SELECT claim.lease_until_ms FROM claim",
            "SELECT claim.lease_until_ms FROM claim",
            "SELECT 4102444800000 AS lease_until_ms FROM (SELECT :claim AS id) AS claim LEFT",
        )],
    ),
    fault(
        "an outcome that is sent again is not recognized",
        &[change("SELECT attempt.item_id, attempt.epoch FROM @asked", "attempt.verdict <> 'lost'", "1 = 0")],
    ),
    fault(
        "a claim is closed with its first end",
        &[change(CLAIMS_LOCK, "claim.open_items", "1 AS open_items")],
    ),
    fault(
        "an end does not lower the open items of its claim",
        &[change("UPDATE claim SET open_items", "- ended.items", "- 0 * ended.items")],
    ),
    fault(
        "running items are not counted",
        &[change("SELECT CAST(COALESCE(SUM(open_items)", "SUM(open_items)", "0 * SUM(open_items)")],
    ),
    fault(
        "the backoff is not kept",
        &[change(
            "DELETE FROM due WHERE",
            "priority = 1 AND due_at_ms <= :now",
            "priority = 1 AND due_at_ms <= :now + 1500",
        )],
    ),
    fault(
        "recovered and released items are not put into due",
        &[change("INSERT INTO due", "item_id uuid)", "item_id uuid) WHERE priority = 1")],
    ),
    fault(
        "a person decides on an item that is running",
        &[
            change(
                "SELECT id FROM item WHERE id = (SELECT found.id",
                "SELECT id FROM item WHERE",
                "INSERT OR IGNORE INTO due (job, priority, due_at_ms, item_id)
                SELECT job, priority, due_at_ms, id FROM item WHERE state IN ('scheduled', 'awaiting') AND",
            ),
            change("SELECT item.*, claimed.host_id", "claimed.epoch = item.epoch", "1 = 0"),
        ],
    ),
    fault(
        "a discovery resolves items that are running",
        &[
            change(
                "SELECT item.id, item.state, item.attempts, item.priority",
                "FROM due",
                "FROM (SELECT job, 1 AS priority, item_id FROM claimed_item) AS due",
            ),
            change(
                DUE_REMOVE,
                DUE_REMOVE,
                "SELECT item_id FROM @taken(job text, priority bigint, due_at_ms bigint, item_id uuid)
                WHERE 1 = 1 OR EXISTS (SELECT 1",
            ),
            change(DUE_REMOVE, " RETURNING item_id", ""),
        ],
    ),
    fault(
        "a discovery resolves items that a host lost",
        &[change("SELECT item.id, item.state, item.attempts, item.priority", "AND due.priority = 1", "")],
    ),
    fault(
        "an item that is no longer found stays with its run",
        &[change("UPDATE item SET state = 'resolved', note", "run_id = NULL, ", "")],
    ),
    fault(
        "numbers of items are only raised",
        &[change("INSERT INTO counter", "excluded.items", "max(0, excluded.items)")],
    ),
    fault(
        "an item that waits for a person is not parked",
        &[change("INSERT INTO parked", "since_ms bigint)", "since_ms bigint) WHERE 1 = 0")],
    ),
    fault("an item stays parked", &[change("DELETE FROM parked", "WHERE", "WHERE 1 = 0 AND")]),
    fault(
        "a tick fires on each host",
        &[change(
            "INSERT INTO tick",
            "WHERE tick.run_id IS NULL AND tick.decided_at_ms < tick.at_ms",
            "WHERE 1 = 1",
        )],
    ),
    fault(
        "a page is not fenced",
        &[change(
            "UPDATE run SET page_cursor",
            "epoch = :epoch AND claim_id = :claim",
            "(1 = 1 OR epoch = :epoch OR claim_id = :claim)",
        )],
    ),
];

thread_local! {
    static PRESENT: Cell<Option<usize>> = const { Cell::new(None) };
    /// The changes of the present fault that a statement had.
    static MADE: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
}

/// Puts a fault of [`FAULTS`], or none, into all statements of this thread.
pub fn put(fault: Option<usize>) {
    if PRESENT.replace(fault) != fault {
        MADE.with_borrow_mut(BTreeSet::clear);
    }
}

/// The first change of this thread's fault that no statement had: the store's text is another one now.
pub fn not_made() -> Option<&'static str> {
    let changes = PRESENT.get().and_then(|number| FAULTS.get(number))?.changes;
    MADE.with_borrow(|made| {
        let (_, change) = changes.iter().enumerate().find(|(at, _)| !made.contains(at))?;
        Some(change.statement)
    })
}

/// The text of a statement with this thread's fault. The store calls it for each statement.
pub fn with_fault(text: &'static str) -> &'static str {
    let Some((number, fault)) = PRESENT.get().and_then(|number| Some((number, FAULTS.get(number)?))) else {
        return text;
    };
    let concerns = |change: &Change| text.starts_with(change.statement) && text.contains(change.from);
    let changes: Vec<(usize, &Change)> =
        fault.changes.iter().enumerate().filter(|(_, change)| concerns(change)).collect();
    if changes.is_empty() {
        return text;
    }
    MADE.with_borrow_mut(|made| made.extend(changes.iter().map(|(at, _)| at)));
    static CHANGED: Mutex<BTreeMap<(usize, &str), &str>> = Mutex::new(BTreeMap::new());
    let mut changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    // Leaks one text for each fault and statement, for the duration of the simulator. The store knows a text by its
    // address.
    changed.entry((number, text)).or_insert_with(|| {
        let one = |text: String, (_, change): (usize, &Change)| text.replacen(change.from, change.to, 1);
        changes.into_iter().fold(text.to_owned(), one).leak()
    })
}
