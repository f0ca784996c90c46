//! The business database: accounts, wallet addresses and key generation statuses.
//!
//! Other processes (the host's SQL datasource) read and write the same tables concurrently. Every write here
//! is therefore one short transaction that begins with its write.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::address::{CHAINS, address};
use crate::pool::Pool;
use crate::standing::{STANDINGS, standing};

/// One file for each part of the business.
const TABLES: [&str; 4] = [
    include_str!("../schema/wallets.sql"),
    include_str!("../schema/split_orders.sql"),
    include_str!("../schema/stock.sql"),
    include_str!("../schema/event_inbox.sql"),
];

const PROBE: &str = "SELECT COUNT(*) FROM user_account u
    LEFT JOIN wallet_address w ON w.user_id = u.user_id
    LEFT JOIN keygen_status k ON k.user_id = u.user_id
    LEFT JOIN mpc_session m ON m.user_id = u.user_id
    WHERE u.user_id = 0";
const USERS: &str = "SELECT COUNT(*) FROM user_account";
const USER_EXISTS: &str = "SELECT COUNT(*) FROM user_account WHERE user_id = $1";
const INCOMPLETE: &str = "SELECT COUNT(*) FROM user_account u
    WHERE (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < 3";
const INCOMPLETE_STATUSES: &str = "SELECT k.status, k.updated_at_ms FROM user_account u
    LEFT JOIN keygen_status k ON k.user_id = u.user_id
    WHERE (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < 3";
const INCOMPLETE_USERS: &str = "SELECT u.user_id, u.account_sequence FROM user_account u
    WHERE (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < 3
    ORDER BY u.user_id LIMIT $1";
const STATUS: &str =
    "SELECT status, session_id, request_key, updated_at_ms FROM keygen_status WHERE user_id = $1";
const STATUS_SET: &str = "INSERT INTO keygen_status (user_id, status, session_id, request_key, updated_at_ms)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (user_id) DO UPDATE SET status = excluded.status, session_id = excluded.session_id,
        request_key = excluded.request_key, updated_at_ms = excluded.updated_at_ms";
const ADDRESSES: &str = "SELECT chain, address FROM wallet_address WHERE user_id = $1 ORDER BY chain";
/// Existing rows are kept: an assigned address never changes.
pub(crate) const ADDRESS_ADD: &str = "INSERT INTO wallet_address (user_id, chain, address)
    VALUES ($1, $2, $3) ON CONFLICT (user_id, chain) DO NOTHING";

/// Both are `None` if the user has no status.
type StatusAndTime = (Option<String>, Option<i64>);

#[derive(Clone, Debug)]
pub struct World {
    pub(crate) pool: Pool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    pub users: i64,
    pub complete: i64,
    pub incomplete: i64,
    /// Number of incomplete wallets by status (the words of `standing::STANDINGS`, in that order, without
    /// zeros). The numbers add up to `incomplete`.
    pub by_status: Vec<(String, i64)>,
}

/// One row of `keygen_status`, as stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KeygenStatus {
    pub status: String,
    pub session_id: Option<String>,
    pub request_key: Option<String>,
    pub updated_at_ms: Option<i64>,
}

impl World {
    /// Opens the database and creates missing tables; on SQLite the file too.
    pub async fn create(url: &str) -> Result<World> {
        let pool = Pool::connect(url, true).await?;
        for table in TABLES {
            on!(&pool, |db| sqlx::raw_sql(table).execute(db).await.map(drop))
                .context("cannot create the tables of the business database")?;
        }
        Ok(World { pool })
    }

    /// Opens a database that `create` has made.
    pub async fn open(url: &str) -> Result<World> {
        let pool = Pool::connect(url, false).await?;
        on!(&pool, |db| sqlx::query(PROBE).execute(db).await.map(drop)).context(
            "the business database has not the tables of the demo; create them first, or check that its url is right",
        )?;
        Ok(World { pool })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Number of users with an incomplete wallet.
    pub async fn incomplete(&self) -> Result<i64> {
        on!(&self.pool, |db| sqlx::query_scalar(INCOMPLETE).fetch_one(db).await)
            .context("cannot count the incomplete wallets")
    }

    /// User id and account sequence of users with an incomplete wallet, lowest id first, at most `limit`.
    pub async fn incomplete_users(&self, limit: i64) -> Result<Vec<(i64, i64)>> {
        on!(&self.pool, |db| sqlx::query_as(INCOMPLETE_USERS).bind(limit).fetch_all(db).await)
            .context("cannot list the users with incomplete wallets")
    }

    pub async fn counts(&self, now_ms: i64) -> Result<Counts> {
        let (users, rows): (i64, Vec<StatusAndTime>) = on!(&self.pool, |db| {
            let users = sqlx::query_scalar(USERS).fetch_one(db).await;
            let rows = sqlx::query_as(INCOMPLETE_STATUSES).fetch_all(db).await;
            users.and_then(|users| Ok((users, rows?)))
        })
        .context("cannot count the users of the business database")?;
        let mut found: BTreeMap<&str, i64> = BTreeMap::new();
        for (status, updated_at_ms) in &rows {
            *found.entry(standing(status.as_deref(), *updated_at_ms, now_ms)).or_default() += 1;
        }
        let incomplete = rows.len() as i64;
        Ok(Counts {
            users,
            complete: users - incomplete,
            incomplete,
            by_status: STANDINGS
                .iter()
                .filter_map(|word| found.get(word).map(|count| (word.to_string(), *count)))
                .collect(),
        })
    }

    /// Writes the missing addresses of the user's wallet. The key generation status is not changed.
    pub async fn complete_wallet(&self, user_id: i64) -> Result<()> {
        let known: i64 =
            on!(&self.pool, |db| sqlx::query_scalar(USER_EXISTS).bind(user_id).fetch_one(db).await)
                .context("cannot look the user up")?;
        if known == 0 {
            bail!("user {user_id} is not in the business database, so there is no wallet to complete");
        }
        on!(&self.pool, |db| {
            let mut tx = db.begin().await?;
            for chain in CHAINS {
                sqlx::query(ADDRESS_ADD)
                    .bind(user_id)
                    .bind(chain)
                    .bind(address(user_id, chain))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        })
        .with_context(|| format!("cannot complete the wallet of user {user_id}"))
    }

    /// The user's addresses as (chain, address), by chain.
    pub async fn addresses(&self, user_id: i64) -> Result<Vec<(String, String)>> {
        on!(&self.pool, |db| sqlx::query_as(ADDRESSES).bind(user_id).fetch_all(db).await)
            .with_context(|| format!("cannot read the addresses of user {user_id}"))
    }

    pub async fn status(&self, user_id: i64) -> Result<Option<KeygenStatus>> {
        on!(&self.pool, |db| sqlx::query_as(STATUS).bind(user_id).fetch_optional(db).await)
            .with_context(|| format!("cannot read the key generation status of user {user_id}"))
    }

    /// Replaces the user's key generation status, as a request for a generation does.
    pub async fn set_status(&self, user_id: i64, status: &KeygenStatus) -> Result<()> {
        on!(&self.pool, |db| sqlx::query(STATUS_SET)
            .bind(user_id)
            .bind(&status.status)
            .bind(&status.session_id)
            .bind(&status.request_key)
            .bind(status.updated_at_ms)
            .execute(db)
            .await
            .map(drop))
        .with_context(|| format!("cannot set the key generation status of user {user_id}"))
    }
}
