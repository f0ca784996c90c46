//! A job without items: one event a day with the finalized orders so far.

use tidemill_sdk::{Describe, Failure, Item, Job, Outcome};
use tidemill_sdk::{describe, events, export_job, json, sql};

const FINALIZED: &str =
    "SELECT currency, COUNT(*) AS orders, CAST(SUM(amount_minor) AS BIGINT) AS amount_minor
    FROM split_order WHERE status = 'finalized' GROUP BY currency ORDER BY currency";

struct DailyReport;

impl Job for DailyReport {
    fn describe() -> Describe {
        describe!("Publishes one event a day with what was finalized.")
            .read("finalized", "business", FINALIZED)
            .topic("DailyReport")
    }

    fn run(_item: &Item) -> Result<Outcome, Failure> {
        let mut lines = Vec::new();
        for row in &sql::query("finalized", &[])? {
            let (orders, amount) = (row.get::<i64>("orders")?, row.get::<i64>("amount_minor")?);
            lines.push(json!({ "currency": row.get::<String>("currency")?, "orders": orders, "amount_minor": amount }));
        }
        let note = format!("{} currencies", lines.len());
        events::publish("DailyReport", "all", &lines)?;
        Ok(Outcome::resolved(note))
    }
}

export_job!(DailyReport);
