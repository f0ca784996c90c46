//! Publishes each posting in the ledger's outbox once. A posting that cannot be published has its own backoff
//! and does not delay the others.

use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{clock, config, describe, events, export_job, json, params, sql};

const TOPIC: &str = "LedgerPosting";

const WAITING: &str = "SELECT posting_key FROM ledger_outbox WHERE status = 'pending'
    ORDER BY created_at_ms, posting_key LIMIT $1";
const POSTING: &str = "SELECT order_id, account, amount_minor, currency, status, published_by
    FROM ledger_outbox WHERE posting_key = $1";
const SET_PUBLISHED: &str =
    "UPDATE ledger_outbox SET status = 'published', published_at_ms = $2, published_by = $3
    WHERE posting_key = $1 AND status = 'pending'";

struct LedgerOutbox;

impl Job for LedgerOutbox {
    fn describe() -> Describe {
        describe!("Publishes the postings that wait in the ledger's outbox.")
            .config_schema(json!({
                "type": "object",
                "properties": { "batch_size": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 50 } },
                "additionalProperties": false,
            }))
            .read("waiting", "business", WAITING)
            .read("posting", "business", POSTING)
            .write("set-published", "business", SET_PUBLISHED)
            .topic(TOPIC)
    }

    /// One batch per run, oldest first. The next run finds the rest.
    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let batch: u32 = config::get_or("batch_size", 50)?;
        let rows = sql::query("waiting", &params![batch.min(request.limit)])?;
        let keys: Result<Vec<_>, _> =
            rows.iter().map(|row| row.get::<String>("posting_key").map(Found::key)).collect();
        Ok(Page::complete(keys?))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let Some(row) = sql::query("posting", &params![&item.key])?.into_iter().next() else {
            return Ok(Outcome::resolved("the posting is gone"));
        };
        // The status is committed just before the event. If the host crashes between the two, this attempt is
        // repeated, recognises its key, and publishes the missing event.
        let mine = row.get::<Option<String>>("published_by")?.as_ref() == Some(&item.idempotency_key);
        if row.get::<String>("status")? != "pending" && !mine {
            return Ok(Outcome::resolved("published before"));
        }
        let (account, amount) = (row.get::<String>("account")?, row.get::<i64>("amount_minor")?);
        let currency = row.get::<String>("currency")?;
        check(amount, &currency)?;
        let posting = json!({
            "posting_key": item.key,
            "order_id": row.get::<i64>("order_id")?,
            "account": account,
            "amount_minor": amount,
            "currency": currency,
        });
        let now = clock::now_ms() as i64;
        if !mine && sql::execute("set-published", &params![&item.key, now, &item.idempotency_key])? == 0 {
            return Ok(Outcome::resolved("published before"));
        }
        events::publish(TOPIC, &account, &posting)?;
        Ok(Outcome::resolved("published"))
    }
}

/// Refuses postings that no ledger would accept. A person has to correct the row.
fn check(amount_minor: i64, currency: &str) -> Result<(), Failure> {
    if amount_minor <= 0 {
        let message =
            format!("the amount is {amount_minor}; it has to be above 0: mend the row, then retry the item");
        return Err(Failure::permanent("bad-posting", message));
    }
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let message = format!(
            "the currency is {currency:?}; it has to be three capitals: mend the row, then retry the item"
        );
        return Err(Failure::permanent("bad-posting", message));
    }
    Ok(())
}

export_job!(LedgerOutbox);
