//! Checks of a store in which the plugin `witness` has processed all items. They do not use the host's code.

/// Each violation, and the query that lists the items that have it. The query must return no row.
pub const VIOLATIONS: [(&str, &str); 11] = [
    ("not resolved", "SELECT item_key || ' is ' || state FROM item WHERE state <> 'resolved'"),
    (
        "not exactly one attempt that resolved it",
        "SELECT i.item_key FROM item i LEFT JOIN attempt a ON a.item_id = i.id AND a.verdict = 'resolved'
        GROUP BY i.item_key HAVING COUNT(a.item_id) <> 1",
    ),
    (
        "epochs that no attempt accounts for",
        "SELECT i.item_key FROM item i WHERE i.epoch <> 1 + (SELECT COUNT(*) FROM attempt a WHERE a.item_id = i.id)",
    ),
    (
        "two attempts under one claim",
        "SELECT CAST(item_id AS TEXT) FROM attempt GROUP BY item_id, epoch HAVING COUNT(*) > 1
        UNION ALL SELECT CAST(item_id AS TEXT) FROM attempt GROUP BY item_id, claim_id HAVING COUNT(*) > 1",
    ),
    (
        "a place of an item that is resolved",
        "SELECT 'due ' || item_id FROM due UNION ALL SELECT 'claim ' || id FROM claim
        UNION ALL SELECT 'parked ' || item_id FROM parked",
    ),
    (
        "a number of items that is not theirs",
        "SELECT job || ' ' || class FROM item_count AS c GROUP BY job, class
        HAVING SUM(items) <> (SELECT COUNT(*) FROM item i WHERE i.job = c.job AND i.state = c.class)",
    ),
    (
        "a count of attempts that is not theirs",
        "SELECT i.item_key FROM item i WHERE i.attempts <> (SELECT COUNT(*) FROM attempt a
            WHERE a.item_id = i.id AND a.verdict NOT IN ('lost', 'interrupted', 'throttled'))",
    ),
    (
        "not exactly one event",
        "SELECT i.item_key FROM item i LEFT JOIN event e ON e.item_id = CAST(i.id AS TEXT)
        GROUP BY i.item_key HAVING COUNT(e.id) <> 1",
    ),
    (
        "no value in the key-value store",
        "SELECT i.item_key FROM item i WHERE NOT EXISTS (SELECT 1 FROM kv WHERE kv.job = i.job AND kv.kv_key = i.item_key)",
    ),
    (
        "lost without a line in the trail",
        "SELECT i.item_key || ' at epoch ' || a.epoch FROM attempt a JOIN item i ON i.id = a.item_id
        WHERE a.verdict = 'lost' AND 1 <> (
            SELECT COUNT(*) FROM audit u WHERE u.action = 'lost' AND u.job = a.job AND u.subject = i.item_key
            AND u.detail LIKE '% at epoch ' || a.epoch || ';%')",
    ),
    (
        "runs that are not finished",
        "SELECT id || ' is ' || state || ', done ' || done || ' of ' || queued FROM run
        WHERE state <> 'finished' OR done <> queued",
    ),
];
