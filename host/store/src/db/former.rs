//! The former transaction for the same item on a datasource. A host that was killed may leave one open, with its COMMIT
//! on the way. The transaction of the next attempt begins after it, so that it sees the former effects, or there are
//! none.
//!
//! Each such transaction holds an advisory lock that is named like the item.

use std::time::Duration;

use domain::scope::Value;

use super::retry_transaction::PgTx;
use super::{Bound, Most, Row, Server};

/// Maximum wait. Before its commit, each attempt lets the database end its transaction after 5 s
/// ([`crate::db::Tx::commit_within`]); one that lasts longer does not commit.
const WAIT_MAX: Duration = Duration::from_secs(6);

/// $1: the name.
pub const TRY_LOCK: &str =
    "SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended('tidemill ' || CAST($1 AS TEXT), 0))
    THEN CAST(1 AS BIGINT) ELSE 0 END AS taken";
const LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(hashtextextended('tidemill ' || CAST($1 AS TEXT), 0)) AS TEXT) AS taken";

pub fn is_taken(rows: &[Row]) -> bool {
    rows.first().is_some_and(|row| row.int("taken").is_ok_and(|taken| taken == 1))
}

/// Waits until no transaction holds the lock. An error does not matter: the next statement reports its own.
pub async fn wait(server: &Server, name: &[Value]) {
    let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", WAIT_MAX.as_millis());
    if let Ok(mut tx) = PgTx::begin(server, begin, true).await {
        let name = name.iter().cloned().map(Bound::Value).collect();
        let _ = tx.fetch(LOCK, name, Most::ALL).await;
    }
}
