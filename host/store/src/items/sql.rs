//! Statements that read items and attempts for people, and decisions of people.

use crate::db::sql::{Sql, locking};

// Items with the claim that holds them now, if one does.
macro_rules! items {
    ($rest:literal) => {
        concat!(
            "SELECT item.*, claimed.host_id, claimed.claimed_at_ms FROM item LEFT JOIN claimed_item AS claimed
                ON claimed.job = item.job AND claimed.item_id = item.id AND claimed.epoch = item.epoch ",
            $rest
        )
    };
}
pub(crate) use items;

/// Takes the first key that is not less than the wanted one: only the index of keys has that order (see
/// [`crate::runs::sql::ITEMS_BY_KEYS`]).
pub const ITEM_GET: Sql = Sql::same(items!(
    "WHERE item.id = (SELECT found.id FROM (SELECT id, item_key FROM item
        WHERE job = :job AND item_key >= :key ORDER BY item_key LIMIT 1) AS found WHERE found.item_key = :key)"
));
/// On Postgres, excludes other changes of the item until the end of the transaction.
pub const ITEM_LOCK: Sql = locking!(
    "SELECT id FROM item WHERE id = (SELECT found.id FROM (SELECT id, item_key FROM item
        WHERE job = :job AND item_key >= :key ORDER BY item_key LIMIT 1) AS found WHERE found.item_key = :key)",
    " FOR UPDATE"
);

/// The newest items of all jobs.
pub const ITEMS_NEWEST: Sql = Sql::same(items!(
    "WHERE (CAST(:state AS TEXT) IS NULL OR item.state = :state) ORDER BY item.id DESC LIMIT :limit"
));
pub const ITEMS_NEWEST_OF_JOB: Sql = Sql::same(items!(
    "WHERE item.job = :job AND (CAST(:state AS TEXT) IS NULL OR item.state = :state)
    ORDER BY item.created_at_ms DESC LIMIT :limit"
));
/// Items of one job that wait for their due time, in the order in which they are claimed.
pub const ITEMS_DUE_OF_JOB: Sql = Sql::same(
    "SELECT item.*, NULL AS host_id, NULL AS claimed_at_ms FROM due @join(item ON item.id = due.item_id)
    WHERE due.job = :job AND item.state = :state
        AND (CAST(:attempted AS BIGINT) IS NULL OR CASE WHEN item.attempts = 0 THEN 0 ELSE 1 END = :attempted)
    ORDER BY due.priority, due.due_at_ms, due.item_id LIMIT :limit",
);
/// The latest claims first.
pub const ITEMS_RUNNING: Sql = Sql::same(
    "SELECT item.*, claimed.host_id, claimed.claimed_at_ms FROM claimed_item AS claimed
    @join(item ON item.id = claimed.item_id)
    WHERE item.epoch = claimed.epoch AND (CAST(:job AS TEXT) IS NULL OR claimed.job = :job) ORDER BY claimed.claimed_at_ms DESC, item.id LIMIT :limit",
);
/// Items that wait for a person or were given up, the latest first.
pub const ITEMS_PARKED: Sql = Sql::same(
    "SELECT item.*, NULL AS host_id, NULL AS claimed_at_ms FROM parked @join(item ON item.id = parked.item_id)
    WHERE parked.state = :state ORDER BY parked.since_ms DESC, parked.item_id DESC LIMIT :limit",
);
pub const ITEMS_PARKED_OF_JOB: Sql = Sql::same(
    "SELECT item.*, NULL AS host_id, NULL AS claimed_at_ms FROM parked @join(item ON item.id = parked.item_id)
    WHERE parked.job = :job AND parked.state = :state
    ORDER BY parked.since_ms DESC, parked.item_id DESC LIMIT :limit",
);

pub const ITEM_COUNTS: Sql =
    Sql::same("SELECT job, class, CAST(SUM(items) AS BIGINT) AS items FROM item_count GROUP BY job, class");
/// Running items by the class that they are counted in.
pub const RUNNING_COUNTS: Sql = Sql::same(
    "SELECT claimed.job, item.state, CAST(MIN(item.attempts) AS BIGINT) AS attempts_min, COUNT(*) AS items
    FROM claimed_item AS claimed @join(item ON item.id = claimed.item_id) WHERE item.epoch = claimed.epoch
    GROUP BY claimed.job, item.state, CASE WHEN item.attempts = 0 THEN 0 ELSE 1 END",
);
/// Open items of a job, up to `:limit`.
pub const ITEMS_OPEN_COUNT: Sql = Sql::same(
    "SELECT CAST(CASE WHEN SUM(items) > :limit THEN :limit ELSE COALESCE(SUM(items), 0) END AS BIGINT) AS number
    FROM item_count WHERE job = :job AND class IN ('pending', 'retrying', 'awaiting')",
);

/// A person's decision. The reason why an item is left to a person is appended to its error.
pub const ITEM_DECIDE: Sql = Sql::same(
    "UPDATE item SET state = :state, due_at_ms = :now, run_id = NULL, crashes = 0, exhausted = 0, priority = 1,
        note = CASE WHEN :state = 'manual_required' THEN note ELSE COALESCE(:notes, note) END,
        error_code = CASE WHEN :state = 'manual_required' THEN COALESCE(error_code, 'left-to-a-person')
            ELSE error_code END,
        error_message = CASE WHEN :state <> 'manual_required' OR CAST(:notes AS TEXT) IS NULL THEN error_message
            WHEN error_message IS NULL OR error_message = '' THEN :notes ELSE error_message || '; ' || :notes END,
        resolved_at_ms = CASE WHEN :state = 'resolved' THEN CAST(:now AS BIGINT) END,
        resolved_by = CASE WHEN :state = 'resolved' THEN CAST(:actor AS TEXT) END,
        attempts = CASE WHEN :restarts = 1 THEN 0 ELSE attempts END,
        series = CASE WHEN :restarts = 1 THEN series + 1 ELSE series END, deferrals = 0,
        updated_at_ms = :now, version = version + 1
    WHERE id = :item AND version = :version",
);

pub const ATTEMPTS_OF_ITEM: Sql = Sql::same(
    "SELECT attempt.* FROM attempt JOIN item ON item.id = attempt.item_id
    WHERE item.job = :job AND item.item_key = :key ORDER BY attempt.epoch DESC LIMIT :limit",
);
