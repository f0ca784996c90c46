//! Queries that must never return rows.

use std::sync::LazyLock;

use anyhow::Result;
use domain::scope::Value;
use store::Store;

/// Entries of claims, with the present epoch of their item, and the places of items: `due`, or an entry with that
/// epoch.
const PLACES: &str = "WITH held AS MATERIALIZED (
        SELECT claimed.claim_id, claimed.item_id, claimed.epoch, item.epoch AS present
        FROM claimed_item AS claimed LEFT JOIN item ON item.id = claimed.item_id),
    place AS MATERIALIZED (
        SELECT item_id, COUNT(*) AS places
        FROM (SELECT item_id FROM due UNION ALL SELECT item_id FROM held WHERE epoch = present) GROUP BY item_id)";

/// Each violation, and the query that finds it.
const VIOLATIONS: [(&str, &str); 19] = [
    (
        "an item has an impossible number",
        "SELECT item_key FROM item WHERE crashes < 0 OR attempts < 0 OR epoch < 1",
    ),
    ("an item is there twice", "SELECT item_key FROM item GROUP BY job, item_key HAVING COUNT(*) > 1"),
    (
        "an open item is not in one place, or another one is in a place",
        "SELECT item_key FROM item LEFT JOIN place ON place.item_id = item.id
        WHERE (state IN ('scheduled', 'awaiting')) <> COALESCE(place.places, 0)",
    ),
    (
        "a place has no item",
        "SELECT item_id FROM due WHERE item_id NOT IN (SELECT id FROM item)
        UNION ALL SELECT item_id FROM held WHERE present IS NULL",
    ),
    (
        "an item is due at another time than it says",
        "SELECT item_key FROM due JOIN item ON item.id = due.item_id
        WHERE (due.job, due.priority, due.due_at_ms) <> (item.job, item.priority, item.due_at_ms)",
    ),
    (
        "a claim has an entry of a later epoch",
        "SELECT claim_id FROM held WHERE epoch > present",
    ),
    (
        "a claim does not have as many open items as it says",
        "SELECT claim.id FROM claim
        WHERE open_items <> (SELECT COUNT(*) FROM held WHERE held.claim_id = claim.id AND held.epoch = held.present)",
    ),
    (
        "an item is not parked as its state says",
        "SELECT COALESCE(item_key, parked.item_id) FROM item
        FULL JOIN parked ON parked.item_id = item.id AND parked.state = item.state AND parked.job = item.job
        WHERE (item.state IS NOT NULL AND item.state IN ('manual_required', 'abandoned')) <> (parked.item_id IS NOT NULL)",
    ),
    (
        "a number of items is not what the items say",
        "SELECT truth.class FROM (SELECT CASE WHEN state <> 'scheduled' THEN state WHEN attempts = 0 THEN 'pending'
                ELSE 'retrying' END AS class, COUNT(*) AS items FROM item GROUP BY 1) AS truth
        FULL JOIN counter ON counter.class = truth.class
        WHERE COALESCE(truth.items, 0) <> COALESCE(counter.items, 0)",
    ),
    (
        "an epoch left no attempt, or two",
        "SELECT item_key FROM item WHERE epoch <> 1 + (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id)
            OR epoch <= (SELECT MAX(attempt.epoch) FROM attempt WHERE attempt.item_id = item.id)",
    ),
    (
        "attempts were counted that did not count, or the other way about",
        "SELECT item_key FROM item WHERE series = 1 AND attempts <> (SELECT COUNT(*) FROM attempt
            WHERE attempt.item_id = item.id AND verdict NOT IN ('lost', 'interrupted', 'host-failed', 'snoozed', 'throttled'))",
    ),
    (
        "crashes are not the losses since the last end",
        "SELECT item_key FROM item WHERE crashes <> (SELECT COUNT(*) FROM attempt
                WHERE attempt.item_id = item.id AND verdict = 'lost' AND attempt.epoch > (
                    SELECT COALESCE(MAX(ended.epoch), 0) FROM attempt AS ended
                    WHERE ended.item_id = item.id AND verdict NOT IN ('lost', 'interrupted', 'host-failed')))
            AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.actor = 'ada' AND audit.subject = item.item_key)",
    ),
    (
        "a run's count is not what its items say",
        "SELECT id FROM run WHERE error_code IS NULL AND (
            queued - done <> (SELECT COUNT(*) FROM item WHERE item.run_id = run.id)
            OR (state = 'finished') <> (discovered_at_ms IS NOT NULL AND done >= queued))",
    ),
    (
        "an item at rest belongs to a run",
        "SELECT item_key FROM item WHERE run_id IS NOT NULL AND state IN ('resolved', 'manual_required', 'abandoned')",
    ),
    (
        "an instant has two runs",
        "SELECT scheduled_at_ms FROM run WHERE scheduled_at_ms IS NOT NULL GROUP BY job, scheduled_at_ms HAVING COUNT(*) > 1",
    ),
    (
        "not one event for each attempt that resolved an item",
        "SELECT item_key FROM item WHERE (SELECT COUNT(*) FROM event WHERE event.item_id = item.id)
            <> (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id AND verdict = 'resolved')",
    ),
    (
        "an attempt belongs to no item",
        "SELECT item_id FROM attempt WHERE item_id NOT IN (SELECT id FROM item)",
    ),
    (
        "an item is called poison that did not crash so often",
        "SELECT item_key FROM item WHERE error_code = 'poison'
            AND 3 > (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id AND verdict = 'lost')",
    ),
    (
        "an item crashed its hosts more often than it may",
        // More crashes than its job allows are possible if it runs beside another suspect.
        "SELECT item_key FROM item WHERE state <> 'manual_required' AND epoch > 9 AND attempts = 0
            AND 8 < (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id AND verdict = 'lost'
                AND attempt.epoch > item.epoch - 10)",
    ),
];

/// Combines all checks into one query, because they run often.
pub async fn all(store: &Store) -> Result<Vec<String>> {
    static QUESTION: LazyLock<String> = LazyLock::new(|| {
        let one = |(what, question): &(&str, &str)| {
            format!(
                "SELECT '{}: ' || named FROM (SELECT NULL AS named WHERE 0 UNION ALL {question})",
                what.replace('\'', "''")
            )
        };
        format!("{PLACES} {}", VIOLATIONS.iter().map(one).collect::<Vec<_>>().join(" UNION ALL "))
    });
    texts(store, &QUESTION).await
}

/// Fetches the first column.
pub async fn texts(store: &Store, question: &str) -> Result<Vec<String>> {
    let rows = store.query(question).await?;
    let text = |row: Vec<Value>| match row.into_iter().next() {
        Some(Value::Text(text)) => text,
        other => format!("{other:?}"),
    };
    Ok(rows.into_iter().map(text).collect())
}

pub async fn number(store: &Store, question: &str) -> Result<i64> {
    Ok(first_number(&store.query(question).await?))
}

pub fn first_number(rows: &[Vec<Value>]) -> i64 {
    let number = |value: &Value| if let Value::Integer(number) = value { Some(*number) } else { None };
    rows.iter().flatten().find_map(number).unwrap_or_default()
}
