//! Monitors the whole business and raises an alert when work makes no progress: one for each kind of problem.

use tidemill_sdk::alerts::{self, Severity};
use tidemill_sdk::{Describe, Failure, Item, Job, Outcome};
use tidemill_sdk::{clock, config, describe, export_job, json, params, sql};

const OLD_ORDERS: &str = "SELECT CAST(order_id AS TEXT) AS name FROM split_order
    WHERE status = 'finalize_failed' AND updated_at_ms <= $1 ORDER BY order_id LIMIT 1000";
const OLD_POSTINGS: &str = "SELECT posting_key AS name FROM ledger_outbox
    WHERE status = 'pending' AND created_at_ms <= $1 ORDER BY created_at_ms, posting_key LIMIT 1000";
const EMPTY_CAMPAIGNS: &str = "SELECT name FROM campaign
    WHERE active = 1 AND stock <= 0 AND $1 > 0 ORDER BY campaign_id LIMIT 1000";

struct Check {
    kind: &'static str,
    what: &'static str,
    statement: &'static str,
    /// The config key of the age in minutes from which a row counts, and its default.
    age: Option<(&'static str, i64)>,
}

const CHECKS: [Check; 3] = [
    Check {
        kind: "ORDERS_NOT_FINALIZED",
        what: "orders are not finalized",
        statement: "old-orders",
        age: Some(("order_age_minutes", 30)),
    },
    Check {
        kind: "LEDGER_OUTBOX_BEHIND",
        what: "postings wait for the ledger",
        statement: "old-postings",
        age: Some(("outbox_age_minutes", 10)),
    },
    Check {
        kind: "CAMPAIGNS_OUT_OF_STOCK",
        what: "campaigns have no stock left",
        statement: "empty-campaigns",
        age: None,
    },
];
/// Most names in a message.
const LISTED: usize = 10;

struct MonitoringAlert;

impl Job for MonitoringAlert {
    fn describe() -> Describe {
        describe!("Calls people when something in the business stands still.")
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "order_age_minutes": { "type": "integer", "minimum": 1, "default": 30 },
                    "outbox_age_minutes": { "type": "integer", "minimum": 1, "default": 10 },
                    "error_above": { "type": "integer", "minimum": 0, "default": 10 },
                },
                "additionalProperties": false,
            }))
            .read("old-orders", "business", OLD_ORDERS)
            .read("old-postings", "business", OLD_POSTINGS)
            .read("empty-campaigns", "business", EMPTY_CAMPAIGNS)
            .alerts()
    }

    fn run(_item: &Item) -> Result<Outcome, Failure> {
        let error_above: usize = config::get_or("error_above", 10)?;
        let mut found = Vec::new();
        for Check { kind, what, statement, age } in CHECKS {
            let age = age.map_or(Ok(0), |(key, default)| config::get_or(key, default))?;
            let since = clock::now_ms() as i64 - age * 60_000;
            let rows = sql::query(statement, &params![since])?;
            let names: Result<Vec<String>, _> = rows.iter().map(|row| row.get("name")).collect();
            let names = names?;
            if names.is_empty() {
                continue;
            }
            let severity = if names.len() > error_above { Severity::Error } else { Severity::Warning };
            alerts::raise(kind, "all", severity, &message(what, &names), &json!({ "all": names }))?;
            found.push(format!("{} {what}", names.len()));
        }
        Ok(Outcome::resolved(if found.is_empty() { "all well".to_owned() } else { found.join(", ") }))
    }
}

/// The first names, and the number of the others.
fn message(what: &str, names: &[String]) -> String {
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => format!("{} {what}: {listed}", names.len()),
        more => format!("{} {what}: {listed} and {more} more", names.len()),
    }
}

export_job!(MonitoringAlert);
