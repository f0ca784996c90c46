//! Finishes orders whose finalizing failed: posts them to the ledger and pays them out, each step once.

use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{audit, clock, describe, events, export_job, json, metrics, params, sql};

const TOPIC: &str = "SplitOrderFinalized";

const FAILED: &str =
    "SELECT order_id FROM split_order WHERE status = 'finalize_failed' AND finalize_in_progress = 0
    AND order_id > $1 ORDER BY order_id LIMIT $2";
const ORDER: &str = "SELECT o.account, o.amount_minor, o.currency, o.status, o.ledger_posted, o.changed_by,
        o.finalize_in_progress, a.state AS account_state
    FROM split_order o LEFT JOIN payout_account a ON a.account = o.account WHERE o.order_id = $1";
const ADD_POSTING: &str = "INSERT INTO ledger_outbox
    (posting_key, order_id, account, amount_minor, currency, status, created_at_ms)
    SELECT $2, order_id, account, amount_minor, currency, 'pending', $3 FROM split_order WHERE order_id = $1
    ON CONFLICT (posting_key) DO NOTHING";
const SET_POSTED: &str = "UPDATE split_order SET ledger_posted = 1, updated_at_ms = $2 WHERE order_id = $1";
const SET_PAID_OUT: &str =
    "UPDATE split_order SET paid_out = 1, status = 'finalized', last_finalize_error = NULL,
    finalize_attempts = finalize_attempts + 1, changed_by = $2, updated_at_ms = $3 WHERE order_id = $1";
const SET_FAILED: &str =
    "UPDATE split_order SET last_finalize_error = $2, changed_by = $3, updated_at_ms = $4,
    finalize_attempts = finalize_attempts + 1 WHERE order_id = $1";

struct FinalizeRetry;

impl Job for FinalizeRetry {
    fn describe() -> Describe {
        describe!("Tries the steps of an order's finalizing again that are left.")
            .read("failed-orders", "business", FAILED)
            .read("order", "business", ORDER)
            .write("add-posting", "business", ADD_POSTING)
            .write("set-posted", "business", SET_POSTED)
            .write("set-paid-out", "business", SET_PAID_OUT)
            .write("set-failed", "business", SET_FAILED)
            .topic(TOPIC)
            .audit()
            .metrics()
    }

    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let after = request.cursor.map_or(Ok(i64::MIN), |cursor| order_id(&cursor))?;
        let rows = sql::query("failed-orders", &params![after, request.limit])?;
        let keys: Result<Vec<i64>, _> = rows.iter().map(|row| row.get("order_id")).collect();
        let items: Vec<Found> = keys?.iter().map(|id| Found::key(id.to_string())).collect();
        let full = items.len() == request.limit as usize;
        let next = items.last().filter(|_| full).map(|last| last.key.clone());
        Ok(Page { items, next })
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let order = order_id(&item.key)?;
        let Some(row) = sql::query("order", &params![order])?.into_iter().next() else {
            return Ok(Outcome::resolved("the order is gone"));
        };
        // Changed by this attempt before the host crashed: only the effects of the outcome are missing.
        let mine = row.get::<Option<String>>("changed_by")?.as_ref() == Some(&item.idempotency_key);
        let status = row.get::<String>("status")?;
        if !mine && (status != "finalize_failed" || row.get::<i64>("finalize_in_progress")? != 0) {
            return Ok(Outcome::resolved(format!("the order is {status}, nothing to retry")));
        }
        let (attempt, now) = (&item.idempotency_key, clock::now_ms() as i64);
        metrics::add("finalize_retry_attempts_total", &[], 1)?;
        if row.get::<i64>("ledger_posted")? == 0 {
            sql::execute("add-posting", &params![order, format!("order-{order}"), now])?;
            sql::execute("set-posted", &params![order, now])?;
        }
        let paid_out = mine && status == "finalized";
        let refusal = refused(row.get::<Option<String>>("account_state")?.as_deref());
        if let Some(why) = refusal.filter(|_| !paid_out) {
            let account = row.get::<String>("account")?;
            let why = format!("account {account:?} {why}");
            if !mine {
                sql::execute("set-failed", &params![order, &why, attempt, now])?;
            }
            audit::record("split-order-finalize-failed", &item.key, &why)?;
            // An outcome, not a failure: the writes are kept, and the host's backoff and limit of attempts
            // apply.
            return Ok(Outcome::awaiting(format!("payout refused: {why}")));
        }
        if !paid_out {
            sql::execute("set-paid-out", &params![order, attempt, now])?;
        }
        let event = json!({ "order_id": order, "account": row.get::<String>("account")?,
            "amount_minor": row.get::<i64>("amount_minor")?, "currency": row.get::<String>("currency")? });
        events::publish(TOPIC, &item.key, &event)?;
        audit::record("split-order-finalized", &item.key, &format!("at attempt {}", item.attempt))?;
        Ok(Outcome::resolved("finalized"))
    }
}

/// Why an account cannot receive a payout, if so.
fn refused(state: Option<&str>) -> Option<String> {
    match state {
        Some("open") => None,
        Some(state) => Some(format!("is {state}: open it, or change the order's account")),
        None => Some("does not exist: add it, or change the order's account".to_owned()),
    }
}

fn order_id(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::permanent("bad-key", format!("{text:?} is not an order's id")))
}

export_job!(FinalizeRetry);
