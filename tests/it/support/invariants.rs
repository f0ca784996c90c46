//! Checks of a store in which the plugin `witness` has processed all items. They do not use the host's code.

/// Each violation, and the query that lists the items that have it. The query must return no row.
pub const VIOLATIONS: [(&str, &str); 9] = [
    ("not resolved", "SELECT item_key || ' is ' || state FROM item WHERE state <> 'resolved'"),
    (
        "not exactly one attempt that resolved it",
        "SELECT i.item_key FROM item i LEFT JOIN attempt a ON a.item_id = i.id AND a.verdict = 'resolved'
        GROUP BY i.item_key HAVING COUNT(a.item_id) <> 1",
    ),
    (
        "claims that no attempt accounts for",
        "SELECT i.item_key FROM item i WHERE i.epoch <> (SELECT COUNT(*) FROM attempt a WHERE a.item_id = i.id)",
    ),
    (
        "two attempts under one claim",
        "SELECT MIN(item_key) FROM attempt GROUP BY item_id, epoch HAVING COUNT(*) > 1
        UNION ALL SELECT MIN(item_key) FROM attempt GROUP BY item_id, attempt_id HAVING COUNT(*) > 1",
    ),
    (
        "a count of attempts that is not theirs",
        "SELECT i.item_key FROM item i WHERE i.attempts <> (SELECT COUNT(*) FROM attempt a
            WHERE a.item_id = i.id AND a.verdict NOT IN ('lost', 'interrupted', 'throttled'))",
    ),
    (
        "not exactly one event",
        "SELECT i.item_key FROM item i LEFT JOIN event e ON e.item_id = i.id
        GROUP BY i.item_key HAVING COUNT(e.id) <> 1",
    ),
    (
        "no value in the key-value store",
        "SELECT i.item_key FROM item i WHERE NOT EXISTS (SELECT 1 FROM kv WHERE kv.job = i.job AND kv.kv_key = i.item_key)",
    ),
    (
        "lost without a line in the trail",
        "SELECT a.item_key || ' at epoch ' || a.epoch FROM attempt a WHERE a.verdict = 'lost' AND 1 <> (
            SELECT COUNT(*) FROM audit u WHERE u.action = 'lost' AND u.job = a.job AND u.subject = a.item_key
            AND u.detail LIKE '% at epoch ' || a.epoch || ';%')",
    ),
    (
        "runs that are not finished",
        "SELECT id || ' is ' || state || ', done ' || done || ' of ' || queued FROM run
        WHERE state <> 'finished' OR done <> queued",
    ),
];
