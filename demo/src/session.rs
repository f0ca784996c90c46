//! The MPC service's writes to the business database for one session.

use crate::address::{CHAINS, address};
use crate::mpc::MpcConfig;
use crate::outcome::Outcome;
use crate::request::KeygenRequest;
use crate::world::{ADDRESS_ADD, World};

/// Changes nothing, but locks the user's row until the transaction ends, on both databases. So two requests
/// of a user never get the same number.
const USER_LOCK: &str = "UPDATE user_account SET account_sequence = account_sequence
    WHERE user_id = $1 AND account_sequence = $2";
const SESSIONS_OF_USER: &str = "SELECT COUNT(*) FROM mpc_session WHERE user_id = $1";
const SESSION_ADD: &str = "INSERT INTO mpc_session (session_id, user_id, outcome, received_at_ms)
    VALUES ($1, $2, $3, $4) ON CONFLICT (session_id) DO NOTHING";
const SESSION_USER: &str = "SELECT user_id FROM mpc_session WHERE session_id = $1";
/// Changes the status only if it still belongs to this session.
const ADVANCE: &str = "UPDATE keygen_status SET status = $1, updated_at_ms = $2
    WHERE user_id = $3 AND session_id = $4";
const CHAINS_OF_USER: &str = "SELECT chain FROM wallet_address WHERE user_id = $1";

/// The result of receiving a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    New(Outcome),
    Duplicate,
    /// No user has this id and account sequence.
    UnknownUser,
    /// The session id was used before, for this other user.
    SessionOf(i64),
}

/// Stores the session and decides its outcome, once.
pub async fn receive(
    world: &World,
    config: &MpcConfig,
    request: &KeygenRequest,
    now_ms: i64,
) -> Result<Received, sqlx::Error> {
    on!(&world.pool, |db| {
        let mut tx = db.begin().await?;
        let locked = sqlx::query(USER_LOCK)
            .bind(request.user_id)
            .bind(request.account_sequence)
            .execute(&mut *tx)
            .await?;
        if locked.rows_affected() == 0 {
            return Ok(Received::UnknownUser);
        }
        let before: i64 =
            sqlx::query_scalar(SESSIONS_OF_USER).bind(request.user_id).fetch_one(&mut *tx).await?;
        let nth = before.cast_unsigned() + 1;
        let outcome = Outcome::decide(config, request.user_id, nth);
        let added = sqlx::query(SESSION_ADD)
            .bind(&request.session_id)
            .bind(request.user_id)
            .bind(outcome.name())
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        if added.rows_affected() == 0 {
            let owner: i64 =
                sqlx::query_scalar(SESSION_USER).bind(&request.session_id).fetch_one(&mut *tx).await?;
            return Ok(if owner == request.user_id {
                Received::Duplicate
            } else {
                Received::SessionOf(owner)
            });
        }
        tx.commit().await?;
        Ok(Received::New(outcome))
    })
}

/// Updates the user's status. Returns false if the status belongs to another session.
pub async fn advance(
    world: &World,
    request: &KeygenRequest,
    status: &str,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    on!(&world.pool, |db| {
        let advanced = sqlx::query(ADVANCE)
            .bind(status)
            .bind(now_ms)
            .bind(request.user_id)
            .bind(&request.session_id)
            .execute(db)
            .await?;
        Ok(advanced.rows_affected() > 0)
    })
}

/// Sets `completed` and writes the addresses in one transaction. Returns false if the status belongs to
/// another session. `leave_out` of the missing addresses are not written.
pub async fn complete(
    world: &World,
    request: &KeygenRequest,
    leave_out: usize,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    on!(&world.pool, |db| {
        let mut tx = db.begin().await?;
        let advanced = sqlx::query(ADVANCE)
            .bind("completed")
            .bind(now_ms)
            .bind(request.user_id)
            .bind(&request.session_id)
            .execute(&mut *tx)
            .await?;
        if advanced.rows_affected() == 0 {
            return Ok(false);
        }
        let present: Vec<String> =
            sqlx::query_scalar(CHAINS_OF_USER).bind(request.user_id).fetch_all(&mut *tx).await?;
        let missing = CHAINS.into_iter().filter(|chain| !present.iter().any(|have| have == chain));
        for chain in missing.skip(leave_out) {
            sqlx::query(ADDRESS_ADD)
                .bind(request.user_id)
                .bind(chain)
                .bind(address(request.user_id, chain))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    })
}
