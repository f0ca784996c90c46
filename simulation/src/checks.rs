//! Queries that must never return rows.

use std::sync::LazyLock;

use anyhow::Result;
use domain::scope::Value;
use store::Store;

/// Each violation, and the query that finds it.
const VIOLATIONS: [(&str, &str); 9] = [
    (
        "an item is in no state, or half in one",
        "SELECT item_key FROM item
        WHERE (state = 'running') <> (attempt_id IS NOT NULL AND host_id IS NOT NULL AND lease_until_ms IS NOT NULL)
            OR crashes < 0 OR attempts < 0
            OR state NOT IN ('waiting', 'running', 'awaiting', 'resolved', 'manual_required', 'abandoned')",
    ),
    ("an item is there twice", "SELECT item_key FROM item GROUP BY job, item_key HAVING COUNT(*) > 1"),
    (
        "a claim left no attempt, or two",
        "SELECT item_key FROM item WHERE epoch <> (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id)
            + (state = 'running')",
    ),
    (
        "attempts were counted that did not count, or the other way about",
        "SELECT item_key FROM item WHERE series = 1 AND attempts <> (SELECT COUNT(*) FROM attempt
            WHERE attempt.item_id = item.id AND verdict NOT IN ('lost', 'interrupted', 'host-failed', 'snoozed', 'throttled'))",
    ),
    (
        "a run's count is not what its items say",
        "SELECT id FROM run WHERE error_code IS NULL AND (
            queued - done <> (SELECT COUNT(*) FROM item WHERE item.run_id = run.id)
            OR (state = 'finished') <> (discovered_at_ms IS NOT NULL AND done >= queued))",
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
        "an item is called poison that did not crash so often",
        "SELECT item_key FROM item WHERE error_code = 'poison'
            AND 3 > (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id AND verdict = 'lost')",
    ),
    (
        "an item crashed its hosts more often than it may",
        // More crashes than its job allows are possible if it runs beside another suspect.
        "SELECT item_key FROM item WHERE state <> 'manual_required' AND epoch > 8 AND attempts = 0
            AND 8 < (SELECT COUNT(*) FROM attempt WHERE attempt.item_id = item.id AND verdict = 'lost'
                AND attempt.epoch > item.epoch - 9)",
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
        VIOLATIONS.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
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
