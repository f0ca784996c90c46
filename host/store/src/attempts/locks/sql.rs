//! Statements on named locks. The row with the empty name is no lock: it holds the highest token of removed
//! locks.

use crate::db::sql::{Sql, postgres, sqlite};

/// A lock is held by an attempt that holds its item, or by an external holder until a time ($2 is now).
macro_rules! held {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "(COALESCE(until_ms, 0) > $2 OR EXISTS (SELECT 1 FROM claim JOIN item ON item.id = named_lock.item_id
                AND item.epoch = named_lock.epoch WHERE claim.id = named_lock.claim_id))",
            $after
        )
    };
}

pub const LOCK_OPEN: Sql = Sql::same(
    "INSERT INTO named_lock (name, token, holder, taken_at_ms)
    VALUES ($1, (SELECT COALESCE(MAX(token), 0) FROM named_lock WHERE name = ''), '', $2)
    ON CONFLICT (name) DO NOTHING",
);
/// Excludes other decisions about this lock until the end of the transaction. A later, separate statement
/// reads the holder: it has to see the commits that happened while this one waited.
pub const LOCK_ROW: Sql = Sql::differs(sqlite::LOCK_ROW, postgres::LOCK_ROW);
pub const LOCK_TAKE: Sql = Sql::same(held!(
    "UPDATE named_lock SET token = token + 1, item_id = $3, epoch = $4, claim_id = $5, until_ms = $6, holder = $7, taken_at_ms = $2
    WHERE name = $1 AND NOT ",
    " RETURNING token"
));
pub const LOCK_SEE: Sql = Sql::same(held!("SELECT * FROM named_lock WHERE name = $1 AND ", ""));
/// The token that [`LOCK_TAKE`] would return next.
pub const LOCK_NEXT: Sql =
    Sql::same("SELECT COALESCE(MAX(token), 0) + 1 AS token FROM named_lock WHERE name IN ($1, '')");
pub const LOCK_RENEW: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = $4 WHERE name = $1 AND token = $3 AND until_ms > $2 RETURNING token",
);
pub const LOCK_FREE: Sql = Sql::same(
    "UPDATE named_lock SET until_ms = NULL WHERE name = $1 AND until_ms > $2 AND (CAST($3 AS BIGINT) IS NULL OR token = $3)
    RETURNING token",
);
pub const LOCKS_HELD: Sql =
    Sql::same(held!("SELECT * FROM named_lock WHERE name > $1 AND ", " ORDER BY name LIMIT $3"));

/// Keeps the tokens of removed locks from being issued again.
pub const LOCKS_FLOOR: Sql = Sql::same(held!(
    "INSERT INTO named_lock (name, token, holder, taken_at_ms)
    SELECT '', MAX(token), '', $2 FROM named_lock WHERE name <> '' AND taken_at_ms < $1 AND NOT ",
    " HAVING COUNT(*) > 0
    ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE excluded.token > named_lock.token"
));
pub const LOCKS_FORGET: Sql =
    Sql::same(held!("DELETE FROM named_lock WHERE name <> '' AND taken_at_ms < $1 AND NOT ", ""));
