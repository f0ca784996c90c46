//! Resets orders whose finalizing began and never ended, and alerts a person if one of them sticks too often.

use tidemill_sdk::alerts::{self, Severity};
use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{audit, clock, config, describe, export_job, items, json, metrics, params, sql};

const STUCK: &str = "SELECT order_id FROM split_order
    WHERE finalize_in_progress = 1 AND finalize_started_at_ms <= $1 ORDER BY order_id LIMIT $2";
const ORDER: &str = "SELECT stuck_recoveries, changed_by FROM split_order WHERE order_id = $1";
const RESET: &str = "UPDATE split_order SET finalize_in_progress = 0, finalize_started_at_ms = NULL,
        status = 'finalize_failed', stuck_recoveries = stuck_recoveries + 1, changed_by = $3, updated_at_ms = $4
    WHERE order_id = $1 AND finalize_in_progress = 1 AND finalize_started_at_ms <= $2";

struct FinalizeRecover;

impl Job for FinalizeRecover {
    fn describe() -> Describe {
        describe!("Puts back orders whose finalizing began and was never ended.")
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "stuck_threshold_seconds": { "type": "integer", "minimum": 1, "default": 300 },
                    "recoveries_alert_above": { "type": "integer", "minimum": 0, "default": 3 },
                },
                "additionalProperties": false,
            }))
            .read("stuck-orders", "business", STUCK)
            .read("order", "business", ORDER)
            .write("reset", "business", RESET)
            .alerts()
            .audit()
            .metrics()
    }

    /// The next run finds the orders beyond one page, when these are no longer stuck.
    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let rows = sql::query("stuck-orders", &params![began_before()?, request.limit])?;
        let keys: Result<Vec<i64>, _> = rows.iter().map(|row| row.get("order_id")).collect();
        Ok(Page::complete(keys?.iter().map(|id| Found::key(id.to_string())).collect()))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let order: i64 = item
            .key
            .parse()
            .map_err(|_| Failure::permanent("bad-key", format!("{:?} is not an order's id", item.key)))?;
        let (attempt, now) = (&item.idempotency_key, clock::now_ms() as i64);
        sql::execute("reset", &params![order, began_before()?, attempt, now])?;
        // Reset now, or by this attempt before the host crashed. Otherwise another process was faster.
        let row = sql::query("order", &params![order])?.into_iter().next();
        let Some(row) = row else { return Ok(Outcome::resolved("the order is gone")) };
        if row.get::<Option<String>>("changed_by")?.as_ref() != Some(attempt) {
            return Ok(Outcome::resolved("no longer stuck"));
        }
        // The order does not have to wait until the next run of `finalize-retry` finds it.
        items::enqueue("finalize-retry", &item.key, "")?;
        let recoveries: i64 = row.get("stuck_recoveries")?;
        let detail = format!("recovery {recoveries} of this order");
        audit::record("split-order-finalize-stuck-recovered", &item.key, &detail)?;
        metrics::add("job_stuck_detected_total", &[], 1)?;
        if recoveries > config::get_or("recoveries_alert_above", 3)? {
            let message = format!(
                "order {order} got stuck {recoveries} times while it was finalized: look at its service"
            );
            let metadata = json!({ "order_id": order, "stuck_recoveries": recoveries });
            alerts::raise("FINALIZE_STUCK_TOO_OFTEN", &item.key, Severity::Error, &message, &metadata)?;
        }
        Ok(Outcome::resolved(detail))
    }
}

/// An order is stuck if it began before this and has not ended.
fn began_before() -> Result<i64, Failure> {
    let threshold: i64 = config::get_or("stuck_threshold_seconds", 300)?;
    Ok(clock::now_ms() as i64 - threshold * 1000)
}

export_job!(FinalizeRecover);
