//! The initial users of the demo. Most wallets are complete. Some lack addresses, and these cover every state
//! of rule W6.

use anyhow::{Context, Result};
use uuid::Builder;

use crate::address::{CHAINS, address};
use crate::dice::roll;
use crate::world::{ADDRESS_ADD, World};

pub const USERS: u64 = 300;
pub const INCOMPLETE: u64 = 60;
pub const FIRST_USER_ID: i64 = 10_000_001;
const FIRST_ACCOUNT_SEQUENCE: i64 = 4_102;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The first row acts as a lock: if two processes seed at once, one inserts it and the other finds users. It
/// is also the transaction's first write, so SQLite waits for the lock and never has to give up a snapshot.
const FIRST_USER_ADD: &str = "INSERT INTO user_account (user_id, account_sequence)
    SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT) WHERE NOT EXISTS (SELECT 1 FROM user_account)
    ON CONFLICT (user_id) DO NOTHING";
const USER_ADD: &str = "INSERT INTO user_account (user_id, account_sequence) VALUES ($1, $2)";
const STATUS_ADD: &str = "INSERT INTO keygen_status (user_id, status, session_id, updated_at_ms)
    VALUES ($1, $2, $3, $4)";

/// Why a wallet is incomplete: the states of rule W6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    NoStatus,
    Failed,
    Unreadable,
    NoTime,
    Inconsistent,
    PendingFresh,
    GeneratingFresh,
    DerivingFresh,
    PendingOld,
    GeneratingOld,
    DerivingOld,
    Expired,
}

impl Case {
    pub const ALL: [Case; 12] = [
        Case::NoStatus,
        Case::Failed,
        Case::Unreadable,
        Case::NoTime,
        Case::Inconsistent,
        Case::PendingFresh,
        Case::GeneratingFresh,
        Case::DerivingFresh,
        Case::PendingOld,
        Case::GeneratingOld,
        Case::DerivingOld,
        Case::Expired,
    ];

    /// Status text and age. `dice` varies them within the range of the case.
    fn status(self, dice: u64) -> Option<(&'static str, Option<i64>)> {
        let spread = |from: i64, to: i64| Some(from + (dice % (to - from).cast_unsigned()) as i64);
        let one_of = |words: [&'static str; 3]| words[(dice % 3) as usize];
        // Fresh statuses are seconds old, so that the first run still finds some of them pending.
        let fresh = spread(0, 5 * SECOND_MS);
        let old = spread(90 * SECOND_MS, 20 * MINUTE_MS);
        Some(match self {
            Case::NoStatus => return None,
            Case::Failed => ("failed", spread(2 * MINUTE_MS, 50 * MINUTE_MS)),
            Case::Unreadable => (one_of(["genera", "{\"status\":", ""]), spread(0, 30 * MINUTE_MS)),
            Case::NoTime => (one_of(["pending", "generating", "deriving"]), None),
            Case::Inconsistent => ("completed", spread(3 * MINUTE_MS, 5 * HOUR_MS)),
            Case::PendingFresh => ("pending", fresh),
            Case::GeneratingFresh => ("generating", fresh),
            Case::DerivingFresh => ("deriving", fresh),
            Case::PendingOld => ("pending", old),
            Case::GeneratingOld => ("generating", old),
            Case::DerivingOld => ("deriving", old),
            Case::Expired => {
                (one_of(["failed", "completed", "generating"]), spread(25 * HOUR_MS, 70 * HOUR_MS))
            }
        })
    }
}

/// One initial user. A complete wallet has no case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedUser {
    pub user_id: i64,
    pub account_sequence: i64,
    pub case: Option<Case>,
    pub chains: Vec<&'static str>,
    pub status: Option<SeedStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedStatus {
    pub status: &'static str,
    pub session_id: String,
    pub updated_at_ms: Option<i64>,
}

/// The whole plan, by user id. The same arguments give the same users.
pub fn plan(now_ms: i64, seed: u64) -> Vec<SeedUser> {
    let mut order: Vec<u64> = (0..USERS).collect();
    order.sort_by_key(|index| roll(seed, &[1, *index]));
    let mut users: Vec<SeedUser> =
        (0u64..).zip(order).map(|(place, index)| user(place, index, now_ms, seed)).collect();
    users.sort_by_key(|user| user.user_id);
    users
}

/// The first `INCOMPLETE` places of the shuffled order get the cases in rotation, and each case gets 0, 1 and
/// 2 addresses.
fn user(place: u64, index: u64, now_ms: i64, seed: u64) -> SeedUser {
    let dice = roll(seed, &[2, index]);
    let cases = Case::ALL.len() as u64;
    let case = (place < INCOMPLETE).then(|| Case::ALL[(place % cases) as usize]);
    let mut chains = CHAINS.to_vec();
    if case.is_some() {
        chains.rotate_left((dice % 3) as usize);
        chains.truncate((place / cases % 3) as usize);
    }
    let status = match case {
        Some(case) => case.status(dice),
        // Some of the complete wallets were created within the last day, and their status still exists.
        None if dice.is_multiple_of(5) => {
            Some(("completed", Some(MINUTE_MS + (dice % (20 * HOUR_MS).cast_unsigned()) as i64)))
        }
        None => None,
    };
    SeedUser {
        user_id: FIRST_USER_ID + index as i64,
        account_sequence: FIRST_ACCOUNT_SEQUENCE + index as i64 * 3 + (dice % 3) as i64,
        case,
        chains,
        status: status.map(|(status, age_ms)| SeedStatus {
            status,
            session_id: session_id(seed, index),
            updated_at_ms: age_ms.map(|age| now_ms - age),
        }),
    }
}

fn session_id(seed: u64, index: u64) -> String {
    let bytes = u128::from(roll(seed, &[3, index])) << 64 | u128::from(roll(seed, &[4, index]));
    Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
}

impl World {
    /// Fills an empty world and returns whether it did. A world with users is left unchanged.
    pub async fn seed(&self, now_ms: i64, seed: u64) -> Result<bool> {
        let users = plan(now_ms, seed);
        let filled =
            self.insert(&users).await.context("cannot fill the business database with its first users")?;
        if filled {
            self.seed_trade(now_ms, seed)
                .await
                .context("cannot fill the business database with its first orders")?;
        }
        Ok(filled)
    }

    /// One transaction: the world never has only a part of its users.
    async fn insert(&self, users: &[SeedUser]) -> Result<bool, sqlx::Error> {
        on!(&self.pool, |db| {
            let mut tx = db.begin().await?;
            for (index, user) in users.iter().enumerate() {
                let add = if index == 0 { FIRST_USER_ADD } else { USER_ADD };
                let added =
                    sqlx::query(add).bind(user.user_id).bind(user.account_sequence).execute(&mut *tx).await?;
                if added.rows_affected() == 0 {
                    return Ok(false);
                }
                for chain in &user.chains {
                    sqlx::query(ADDRESS_ADD)
                        .bind(user.user_id)
                        .bind(*chain)
                        .bind(address(user.user_id, chain))
                        .execute(&mut *tx)
                        .await?;
                }
                if let Some(status) = &user.status {
                    sqlx::query(STATUS_ADD)
                        .bind(user.user_id)
                        .bind(status.status)
                        .bind(&status.session_id)
                        .bind(status.updated_at_ms)
                        .execute(&mut *tx)
                        .await?;
                }
            }
            tx.commit().await?;
            Ok(true)
        })
    }
}
