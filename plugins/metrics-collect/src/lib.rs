//! Sets business metrics for `/metrics`: the number of orders, postings, leases and campaigns in each state.

use tidemill_sdk::{Describe, Failure, Item, Job, Outcome};
use tidemill_sdk::{config, describe, export_job, json, metrics, sql};

const ORDERS: &str = "SELECT status, COUNT(*) AS n FROM split_order GROUP BY status";
const POSTINGS: &str = "SELECT status, COUNT(*) AS n FROM ledger_outbox GROUP BY status";
const LEASES: &str = "SELECT status, COUNT(*) AS n FROM stock_lease GROUP BY status";
const LOW_STOCK: &str = "SELECT COUNT(*) AS n FROM campaign WHERE active = 1 AND stock < stock_min";
const NO_WALLET: &str = "SELECT COUNT(*) AS n FROM user_account u
    WHERE (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < 3";

/// Metric, statement, and all possible states: a state without rows has to be reset to 0.
const BY_STATUS: [(&str, &str, &[&str]); 3] = [
    ("business_split_orders", "orders", &["finalizing", "finalize_failed", "finalized"]),
    ("business_ledger_outbox", "postings", &["pending", "published"]),
    ("business_stock_leases", "leases", &["held", "confirmed", "expired"]),
];
const TOTALS: [(&str, &str); 2] =
    [("business_low_stock_campaigns", "low-stock"), ("business_users_without_wallet", "no-wallet")];

struct MetricsCollect;

impl Job for MetricsCollect {
    fn describe() -> Describe {
        describe!("Sets metrics of the business.")
            .config_schema(json!({
                "type": "object",
                "properties": { "enabled": { "type": "boolean", "default": true } },
                "additionalProperties": false,
            }))
            .read("orders", "business", ORDERS)
            .read("postings", "business", POSTINGS)
            .read("leases", "business", LEASES)
            .read("low-stock", "business", LOW_STOCK)
            .read("no-wallet", "business", NO_WALLET)
            .metrics()
    }

    fn run(_item: &Item) -> Result<Outcome, Failure> {
        if !config::get_or("enabled", true)? {
            return Ok(Outcome::resolved("metrics are off"));
        }
        for (metric, statement, states) in BY_STATUS {
            let rows = sql::query(statement, &[])?;
            for state in states {
                let mut count = 0;
                for row in &rows {
                    if row.get::<String>("status")? == *state {
                        count = row.get::<i64>("n")?;
                    }
                }
                metrics::set(metric, &[("status", state)], count as f64)?;
            }
        }
        for (metric, statement) in TOTALS {
            let count = match sql::query(statement, &[])?.first() {
                Some(row) => row.get::<i64>("n")?,
                None => 0,
            };
            metrics::set(metric, &[], count as f64)?;
        }
        Ok(Outcome::resolved("set"))
    }
}

export_job!(MetricsCollect);
