//! Statements on named locks. The row with the empty name is no lock: it holds the highest token of removed
//! locks.

use crate::db::sql::{Sql, postgres, sqlite};

/// A lock is held by an attempt that holds its item, or by an external holder until a time.
macro_rules! held {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "(COALESCE(until_ms, 0) > :now OR EXISTS (SELECT 1 FROM claim JOIN item ON item.id = named_lock.item_id
                AND item.epoch = named_lock.epoch WHERE claim.id = named_lock.claim_id))",
            $after
        )
    };
}

pub const LOCK_OPEN: Sql = Sql::same(
    "INSERT INTO named_lock (name, token, holder, taken_at_ms)
    VALUES (:name, (SELECT COALESCE(MAX(token), 0) FROM named_lock WHERE name = ''), '', :now)
    ON CONFLICT (name) DO NOTHING",
);
/// Excludes other decisions about this lock until the end of the transaction. A later, separate statement
/// reads the holder: it has to see the commits that happened while this one waited.
pub const LOCK_ROW: Sql = Sql::differs(sqlite::LOCK_ROW, postgres::LOCK_ROW);
pub const LOCK_TAKE: Sql = Sql::same(held!(
    "UPDATE named_lock SET token = token + 1, item_id = :item, epoch = :epoch, claim_id = :claim, until_ms = :until, holder = :holder, taken_at_ms = :now
    WHERE name = :name AND NOT ",
    " RETURNING token"
));
pub const LOCK_SEE: Sql = Sql::same(held!("SELECT * FROM named_lock WHERE name = :name AND ", ""));
/// The token that [`LOCK_TAKE`] would return next.
pub const LOCK_NEXT: Sql =
    Sql::same("SELECT COALESCE(MAX(token), 0) + 1 AS token FROM named_lock WHERE name IN (:name, '')");
pub const LOCK_RENEW: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = :until WHERE name = :name AND token = :token AND until_ms > :now RETURNING token",
);
pub const LOCK_FREE: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = NULL WHERE name = :name AND until_ms > :now AND (CAST(:token AS BIGINT) IS NULL OR token = :token)
    RETURNING token",
);
pub const LOCKS_HELD: Sql =
    Sql::same(held!("SELECT * FROM named_lock WHERE name > :after AND ", " ORDER BY name LIMIT :limit"));

/// Keeps the tokens of removed locks from being issued again.
pub const LOCKS_FLOOR: Sql = Sql::same(held!(
    "INSERT INTO named_lock (name, token, holder, taken_at_ms)
    SELECT '', MAX(token), '', :now FROM named_lock WHERE name <> '' AND taken_at_ms < :before AND NOT ",
    " HAVING COUNT(*) > 0
    ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE excluded.token > named_lock.token"
));
pub const LOCKS_FORGET: Sql =
    Sql::same(held!("DELETE FROM named_lock WHERE name <> '' AND taken_at_ms < :before AND NOT ", ""));
