//! Completes the wallet of every user: finds users without a complete one and requests key generation again.
//! The job's configuration, not this code, sets the schedule, the concurrency and the host.

mod decide;
#[cfg(test)]
mod tests;

use decide::{CHAINS, Decision, INCONSISTENT, Limits, Status, decide};
use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{clock, config, describe, events, export_job, json, log, params, sql};

const TOPIC: &str = "MpcKeygenRequested";
const PAGE_LIMIT: u32 = 100;

const INCOMPLETE: &str = "SELECT u.user_id FROM user_account u WHERE u.user_id > $1
    AND (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < $2 ORDER BY u.user_id LIMIT $3";
const USER: &str = "SELECT u.account_sequence,
        (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) AS addresses,
        s.user_id AS status_of, s.status, s.request_key, s.updated_at_ms
    FROM user_account u LEFT JOIN keygen_status s ON s.user_id = u.user_id WHERE u.user_id = $1";
const SET_PENDING: &str = "INSERT INTO keygen_status (user_id, status, session_id, request_key, updated_at_ms)
    VALUES ($1, 'pending', $2, $3, $4) ON CONFLICT (user_id) DO UPDATE SET status = excluded.status,
    session_id = excluded.session_id, request_key = excluded.request_key, updated_at_ms = excluded.updated_at_ms";

struct WalletKeygenRetry;

impl Job for WalletKeygenRetry {
    fn describe() -> Describe {
        describe!("Requests key generation again until every user has a complete wallet.")
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "keygen_timeout_seconds": { "type": "integer", "minimum": 1, "default": 60 },
                    "status_retention_hours": { "type": "integer", "minimum": 1, "default": 24 },
                },
                "additionalProperties": false,
            }))
            .read("incomplete-users", "business", INCOMPLETE)
            .read("user", "business", USER)
            .write("set-pending", "business", SET_PENDING)
            .topic(TOPIC)
    }

    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let after = request.cursor.map_or(Ok(i64::MIN), |cursor| user_id(&cursor))?;
        let limit = request.limit.min(PAGE_LIMIT);
        let rows = sql::query("incomplete-users", &params![after, CHAINS, limit])?;
        let mut items = Vec::new();
        for row in &rows {
            items.push(Found::key(row.get::<i64>("user_id")?.to_string()));
        }
        let full = items.len() == limit as usize;
        let next = items.last().filter(|_| full).map(|last| last.key.clone());
        Ok(Page { items, next })
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let user = user_id(&item.key)?;
        let Some(row) = sql::query("user", &params![user])?.into_iter().next() else {
            log::error!("user {user} no longer exists, skipped");
            return Ok(Outcome::resolved("user no longer exists, skipped"));
        };
        // A value of the wrong type is treated as unreadable.
        let status = row.get::<Option<i64>>("status_of")?.map(|_| Status {
            word: row.get("status").unwrap_or_default(),
            updated_at_ms: row.get("updated_at_ms").unwrap_or_default(),
            request_key: row.get("request_key").unwrap_or_default(),
        });
        let limits = Limits {
            timeout_ms: config::get_or("keygen_timeout_seconds", 60)? * 1000,
            retention_ms: config::get_or("status_retention_hours", 24)? * 3_600_000,
        };
        let (attempt, now_ms) = (&item.idempotency_key, clock::now_ms() as i64);
        let reason = match decide(row.get("addresses")?, status, attempt, &limits, now_ms) {
            Decision::Complete => return Ok(Outcome::resolved("wallet complete")),
            Decision::Wait { until_ms } => return Ok(Outcome::Snoozed(until_ms as u64)),
            Decision::Retry(reason) => reason,
        };
        if reason == INCONSISTENT {
            log::warn!("user {user}: {reason}");
        }
        let session = session_id(attempt);
        request_keygen(user, row.get("account_sequence")?, &session, attempt, now_ms)?;
        Ok(Outcome::awaiting(format!("keygen requested, session {session} ({reason})")))
    }
}

/// Sets the status and publishes the event. The host commits both with the outcome, or neither.
fn request_keygen(user: i64, account: i64, session: &str, attempt: &str, now_ms: i64) -> Result<(), Failure> {
    sql::execute("set-pending", &params![user, session, attempt, now_ms])?;
    let event = json!({
        "session_id": session,
        "user_id": user,
        "account_sequence": account,
        "username": format!("user_{account}"),
        "threshold": 2,
        "total_parties": 3,
        "require_delegate": true,
    });
    events::publish(TOPIC, &user.to_string(), &event).map(drop)
}

/// The same attempt always requests the same session, even if it is repeated after a crash.
fn session_id(attempt: &str) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, attempt.as_bytes()).to_string()
}

fn user_id(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::permanent("bad-key", format!("{text:?} is not a user id")))
}

export_job!(WalletKeygenRetry);
