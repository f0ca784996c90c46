//! Statements that remove old history of one job, a limited number of rows at a time. Items and anything open
//! stay.

use crate::db::sql::Sql;

pub const TICKS: Sql = Sql::same(
    "DELETE FROM tick WHERE job = :job AND at_ms IN (SELECT at_ms FROM tick
        WHERE job = :job AND at_ms < :before AND fate <> 'buffered' ORDER BY at_ms LIMIT :limit)",
);
pub const RUNS: Sql = Sql::same(
    "DELETE FROM run WHERE id IN (SELECT id FROM run
        WHERE job = :job AND created_at_ms < :before AND state IN ('finished', 'failed') AND finished_at_ms < :before
        ORDER BY created_at_ms LIMIT :limit)",
);
pub const ATTEMPTS: Sql = Sql::same(
    "DELETE FROM attempt WHERE (item_id, epoch) IN (SELECT attempt.item_id, attempt.epoch
        FROM attempt JOIN item ON item.id = attempt.item_id
        WHERE attempt.job = :job AND attempt.ended_at_ms < :before AND item.state IN ('resolved', 'abandoned')
        LIMIT :limit)",
);
pub const EVENTS: Sql = Sql::same(
    "DELETE FROM event WHERE id IN (SELECT id FROM event
        WHERE job = :job AND delivered_at_ms < :before LIMIT :limit)",
);
