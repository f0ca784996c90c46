//! Statements that remove old history of one job ($1), a limited number of rows ($3) at a time. Items and
//! anything open stay.

use crate::db::sql::Sql;

pub const TICKS: Sql = Sql::same(
    "DELETE FROM tick WHERE job = $1 AND at_ms IN (SELECT at_ms FROM tick
        WHERE job = $1 AND at_ms < $2 AND fate <> 'buffered' ORDER BY at_ms LIMIT $3)",
);
pub const RUNS: Sql = Sql::same(
    "DELETE FROM run WHERE id IN (SELECT id FROM run
        WHERE job = $1 AND created_at_ms < $2 AND state IN ('finished', 'failed') AND finished_at_ms < $2
        ORDER BY created_at_ms LIMIT $3)",
);
pub const ATTEMPTS: Sql = Sql::same(
    "DELETE FROM attempt WHERE (item_id, epoch) IN (SELECT attempt.item_id, attempt.epoch
        FROM attempt JOIN item ON item.id = attempt.item_id
        WHERE attempt.job = $1 AND attempt.ended_at_ms < $2 AND item.state IN ('resolved', 'abandoned')
        LIMIT $3)",
);
pub const EVENTS: Sql = Sql::same(
    "DELETE FROM event WHERE id IN (SELECT id FROM event
        WHERE job = $1 AND delivered_at_ms < $2 LIMIT $3)",
);
