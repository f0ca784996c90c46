//! Returns stock to its campaign if a customer held it and did not confirm in time.

use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{audit, clock, describe, export_job, params, sql};

const OVERDUE: &str = "SELECT lease_id FROM stock_lease WHERE status = 'held' AND expires_at_ms <= $1
    ORDER BY expires_at_ms, lease_id LIMIT $2";
const EXPIRE: &str = "UPDATE stock_lease SET status = 'expired', expired_by = $3
    WHERE lease_id = $1 AND status = 'held' AND expires_at_ms <= $2";
const LEASE: &str = "SELECT campaign_id, units, expired_by FROM stock_lease WHERE lease_id = $1";
const GIVE_BACK: &str = "UPDATE campaign SET stock = stock + $2 WHERE campaign_id = $1";

struct LeaseRecovery;

impl Job for LeaseRecovery {
    fn describe() -> Describe {
        describe!("Gives stock back that was held and not confirmed in time.")
            .read("overdue", "business", OVERDUE)
            .read("lease", "business", LEASE)
            .write("expire", "business", EXPIRE)
            .write("give-back", "business", GIVE_BACK)
            .audit()
    }

    /// The next run finds the leases beyond one page, when these are done.
    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let rows = sql::query("overdue", &params![clock::now_ms() as i64, request.limit])?;
        let keys: Result<Vec<_>, _> =
            rows.iter().map(|row| row.get::<String>("lease_id").map(Found::key)).collect();
        Ok(Page::complete(keys?))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let attempt = &item.idempotency_key;
        let expired = sql::execute("expire", &params![&item.key, clock::now_ms() as i64, attempt])? == 1;
        let Some(row) = sql::query("lease", &params![&item.key])?.into_iter().next() else {
            return Ok(Outcome::resolved("the lease is gone"));
        };
        // Expired by this attempt before the host crashed: only the audit record is missing.
        if !expired && row.get::<Option<String>>("expired_by")?.as_ref() != Some(attempt) {
            return Ok(Outcome::resolved("confirmed in the meantime"));
        }
        let (campaign, units) = (row.get::<i64>("campaign_id")?, row.get::<i64>("units")?);
        if expired {
            sql::execute("give-back", &params![campaign, units])?;
        }
        let detail = format!("{units} units back to campaign {campaign}");
        audit::record("stock-lease-expired", &item.key, &detail)?;
        Ok(Outcome::resolved(detail))
    }
}

export_job!(LeaseRecovery);
